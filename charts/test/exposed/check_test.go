package exposed

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// list is that is made beside the server, from here.
const list = "../../../internal/app/testdata/exposed.txt"

func metrics(t *testing.T) *Metrics {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Record("catbird:errors:rate5m", `sum by (job) (rate(http_errors_total[5m]))`, map[string]string{"team": "chat"}); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestQueriesThatAskForWhatIsThere(t *testing.T) {
	for query, want := range map[string]string{
		`up{job="catbird"} == 0`: "container endpoint instance job namespace pod service",
		`sum by (namespace, status) (rate(http_requests_total{status=~"5.."}[5m]))`:                               "namespace status",
		`sum without (pod, op) (http_requests_total{op!="unknown", status!=""})`:                                  "container endpoint instance job namespace service status",
		`histogram_quantile(0.9, sum by (le, op) (rate(redis_call_seconds_bucket{op=~"acquire|renew"}[1m])))`:     "op",
		`rate(handoff_duration_seconds_sum[1h]) / rate(handoff_duration_seconds_count[1h])`:                       "container endpoint instance job namespace pod service",
		`go_gc_duration_seconds{quantile="1"}`:                                                                    "container endpoint instance job namespace pod quantile service",
		`sum by (job) (node_ready) == 0 or absent(node_ready{pod="a"})`:                                           "job pod",
		`catbird:errors:rate5m{team="chat"} > 1 and on (job) min by (job) (actor_rollout_percent) == 100`:         "job team",
		`node_ready * on (instance) group_left (version) catbird_build_info`:                                      "container endpoint instance job namespace pod service version",
		`catbird_build_info * on (instance) group_right (version) node_ready`:                                     "container endpoint instance job namespace pod service version",
		`peer_queue_length{peer="catbird-1"} > ignoring (peer) group_left () peer_streams`:                        "container endpoint instance job namespace peer pod service",
		`count_values without (pod) ("ring", cluster_ring_version)`:                                               "container endpoint instance job namespace ring service",
		`label_replace(sum by (pod) (node_ready), "n", "$1", "pod", ".*-(.*)")`:                                   "n pod",
		`topk(3, max_over_time(process_open_fds[1h:1m] offset 1d)) - 1`:                                           "container endpoint instance job namespace pod service",
		`time() - max(integrity_checked_timestamp_seconds)`:                                                       "",
		`http_request_duration_seconds_bucket{le="0.05"}`:                                                         "container endpoint instance job le namespace op pod service",
		`sum by (job) (increase(peer_asks_total{outcome=~"unreachable|lost", kind!~"epoch", peer=~"any.*"}[2m]))`: "job",
	} {
		got, err := metrics(t).Check(query)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s has %q (%v), want %q", query, got, err, want)
		}
	}
}

// What would stay silent for ever is refused, by what is wrong with it.
func TestQueriesThatAskForWhatIsNotThere(t *testing.T) {
	for query, want := range map[string]string{
		`node_redy{job="a"} == 0`: "no node exposes node_redy",
		`go_gorutines`:            "no node exposes go_gorutines",
		`process_resident_bytes`:  "no node exposes process_resident_bytes",
		`catbird:errors:rate6m`:   "no node exposes catbird:errors:rate6m",
		`{job="a"}`:               "without a metric's name",
		`vector(1)`:               "nothing is asked",
		`sum by (status) (rate(http_requests_total{statuz=~"5.."}[5m]))`:                 "no label statuz",
		`http_requests_total{path="/"}`:                                                  "no label path",
		`http_requests_total{status="600"}`:                                              `never "600"`,
		`http_requests_total{status=~"6.."}`:                                             `never matches "6.."`,
		`http_errors_total{error=~"MailboxFul|Overloaded"}`:                              `never "MailboxFul"`,
		`integrity_findings{kind!="duplicates"}`:                                         `never "duplicates"`,
		`integrity_findings{kind!~"duplicates.*"}`:                                       `never matches "duplicates.*"`,
		`actor_stops_total{reason=""}`:                                                   `never ""`,
		`peer_asks_total{outcome="lst"}`:                                                 `never "lst"`,
		`http_request_duration_seconds_bucket{le="0.3"}`:                                 `never "0.3"`,
		`sum by (statuz) (rate(http_requests_total[5m]))`:                                "no label statuz to group",
		`sum without (kind) (node_ready)`:                                                "no label kind to group",
		`sum by (op) (sum by (status) (http_requests_total))`:                            "no label op to group",
		`catbird:errors:rate5m{instance="a"}`:                                            "no label instance",
		`node_ready and on (convo) redis_up`:                                             "no label convo to join",
		`sum by (job) (node_ready) and on (job, pod) redis_up`:                           "no label pod to join",
		`node_ready == ignoring (peer) redis_up`:                                         "no label peer to join",
		`node_ready * on (instance) group_left (versoin) catbird_build_info`:             "no label versoin to take over",
		`catbird_build_info * on (instance) group_right (versoin) node_ready`:            "no label versoin to take over",
		`sum by (job) (node_ready) < min by (namespace) (redis_up)`:                      "never match",
		`actor_errors_total unless node_ready`:                                           "never match",
		`rate(http_request_duration_seconds[5m])`:                                        "ask for _bucket, _sum or _count",
		`rate(node_ready_count[5m])`:                                                     "no node exposes node_ready_count",
		`rate(go_gc_duration_seconds_bucket[5m])`:                                        "no node exposes go_gc_duration_seconds_bucket",
		`rate(redis_call_seconds_sum{le="1"}[5m])`:                                       "no label le",
		`go_gc_duration_seconds_sum{quantile="1"}`:                                       "no label quantile",
		`histogram_quantile(0.9, sum by (op) (rate(redis_call_seconds_bucket[5m])))`:     "no label le",
		`histogram_quantile(0.9, rate(redis_call_seconds_sum[5m]))`:                      "no label le",
		`rate(actor_letters[5m])`:                                                        "rate of actor_letters, which is a gauge",
		`increase(cluster_ring_version[5m])`:                                             "increase of cluster_ring_version",
		`label_replace(node_ready, "n", "$1", "node", "(.*)")`:                           `no label "node" to read`,
		`absent(node_ready{nod="a"})`:                                                    "no label nod",
		`max_over_time(sum by (knd) (integrity_findings)[1h:1m])`:                        "no label knd to group",
		`clamp_min(-(sum by (a) (node_ready)), 0)`:                                       "no label a to group",
		`topk(3, sum by (op) (lease_takes_total))`:                                       "no label op to group",
		`histogram_quantile(scalar(nod_ready), rate(redis_call_seconds_bucket[5m]))`:     "no node exposes nod_ready",
		`quantile by (job) (scalar(max(nod_ready)), redis_up)`:                           "no node exposes nod_ready",
		`sum(rate(http_requests_total{job="a"}[5m])) by (status) > bool 0 and node_redy`: "no node exposes node_redy",
		`sum by (job) (`: "unclosed",
	} {
		if _, err := metrics(t).Check(query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is refused with %v, want %q", query, err, want)
		}
	}
}

func TestTextsThatSpeakOfLabels(t *testing.T) {
	for text, good := range map[string]bool{
		"no label": true,
		"{{ $value | humanize }} of {{ $labels.job }}": true,
		"{{ $labels.jb }}":     false,
		"{{job}} and {{ op }}": true,
		"{{job}} and {{opp}}":  false,
	} {
		if err := Says(text, setOf("job", "op")); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRead(t *testing.T) {
	m := metrics(t)
	if !slices.Contains(m.metrics["peer_asks_total"].values["outcome"], "lost") || m.metrics["peer_asks_total"].values["peer"] != nil {
		t.Errorf("%+v", m.metrics["peer_asks_total"])
	}
	for _, text := range []string{"", "a gauge", "a gage", "a", "a gauge label"} {
		if _, err := Read(text); err == nil {
			t.Errorf("%q is taken for a list", text)
		}
	}
}
