package charttest

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"catbird/charts/test/chart"
	"catbird/charts/test/rehearsal"
)

func plan(t *testing.T, text, name string) *rehearsal.Set {
	t.Helper()
	p, err := rehearsal.SetOf(render(t, text).Objects, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The kubelet must not kill a node that is still leaving in order.
func TestNodesHaveTimeToLeave(t *testing.T) {
	for _, test := range []struct {
		values         string
		delay, timeout string
		preStop, grace int
	}{
		{"", "5s", "30s", 0, 45},
		{"shutdown: {preStopSleepSeconds: 4, drainDelaySeconds: 20, drainTimeoutSeconds: 90, marginSeconds: 15}", "20s", "90s", 4, 129},
		{"shutdown: {terminationGracePeriodSeconds: 120}", "5s", "30s", 0, 120},
	} {
		p := plan(t, test.values, "catbird")
		if p.Variables()["DRAIN_DELAY"] != test.delay || p.Variables()["DRAIN_TIMEOUT"] != test.timeout {
			t.Errorf("%q: DRAIN_DELAY %s, DRAIN_TIMEOUT %s", test.values, p.Variables()["DRAIN_DELAY"], p.Variables()["DRAIN_TIMEOUT"])
		}
		if p.PreStopSeconds != test.preStop || p.TerminationGracePeriodSeconds != test.grace {
			t.Errorf("%q: preStop %d, grace %d, want %d and %d", test.values, p.PreStopSeconds, p.TerminationGracePeriodSeconds, test.preStop, test.grace)
		}
	}
}

func TestUpdatesGoDownToThePartition(t *testing.T) {
	p := plan(t, "replicas: 4", "catbird")
	if p.Update != "RollingUpdate" || p.Management != "Parallel" || p.Replicas != 4 || p.Partition != 0 || p.MinReadySeconds != 5 {
		t.Errorf("%+v", p)
	}
	if p := plan(t, "{replicas: 4, updateStrategy: {partition: 3}}", "catbird"); p.Partition != 3 {
		t.Errorf("a partition of 3 is %d", p.Partition)
	}
}

// What is rolled follows from the revisions: a change of anything that a pod has
// makes another one, and nothing else does.
func TestRevisions(t *testing.T) {
	named := "{clusterSecret: {value: a}, gossipKey: {value: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}, canary: {enabled: true}, "
	was := plan(t, named+"replicas: 3}", "catbird")
	for text, same := range map[string]bool{
		"replicas: 5}": true, "updateStrategy: {partition: 2}}": true, "podDisruptionBudget: {maxUnavailable: 2}}": true,
		"image: {tag: v9}}": false, "actors: {rolloutPercent: 5}}": false, "config: {LEASE_TTL: 3s}}": false,
		"shutdown: {drainDelaySeconds: 6}}": false, "podLabels: {a: b}}": false,
	} {
		if is := plan(t, named+text, "catbird"); (is.Revision == was.Revision) != same {
			t.Errorf("%s: revisions %s and %s", text, was.Revision, is.Revision)
		}
	}
	// A canary's own flags are its own, and the settings of all are its as well.
	was = plan(t, named+"replicas: 3}", "catbird-canary")
	for text, same := range map[string]bool{"actors: {enabled: false}}": true, "config: {LEASE_TTL: 3s}}": false} {
		if is := plan(t, named+text, "catbird-canary"); (is.Revision == was.Revision) != same {
			t.Errorf("canary, %s: revisions %s and %s", text, was.Revision, is.Revision)
		}
	}
}

// A rehearsal is of one cluster: both tracks get clients' requests, and one budget
// counts the pods of both.
func TestPlanOfBothTracks(t *testing.T) {
	whole := func(text string) *rehearsal.Plan {
		t.Helper()
		p, err := rehearsal.Of(render(t, text).Objects)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := whole(matrix["canary"])
	if len(p.Sets) != 2 || p.Sets[0].Name != "catbird" || p.Sets[1].Name != "catbird-canary" || !p.Sets[0].Clients || !p.Sets[1].Clients {
		t.Errorf("sets %+v", p.Sets)
	}
	want := rehearsal.Budget{Name: "catbird", Sets: []string{"catbird", "catbird-canary"}, MaxUnavailable: "1", UnhealthyPods: "AlwaysAllow"}
	if len(p.Budgets) != 1 || !reflect.DeepEqual(p.Budgets[0], want) {
		t.Errorf("budgets %+v", p.Budgets)
	}
	p = whole(matrix["autoscaled"])
	if len(p.Budgets) != 1 || p.Budgets[0].MinAvailable != "66%" || p.Budgets[0].MaxUnavailable != "" {
		t.Errorf("budgets %+v", p.Budgets)
	}
	if s := p.Sets[0]; s.Replicas != 4 || s.MaxReplicas != 10 {
		t.Errorf("from %d to %d pods", s.Replicas, s.MaxReplicas)
	}
	if p := whole(matrix["little"]); len(p.Budgets) != 0 {
		t.Errorf("budgets that are off: %+v", p.Budgets)
	}
}

func TestProbesAskTheRightThing(t *testing.T) {
	p := plan(t, "", "catbird")
	for path, probe := range map[string]*rehearsal.Probe{
		"/health/live /health/live": p.Startup, "/health/live": p.Liveness, "/health/ready": p.Readiness,
	} {
		want, _, _ := strings.Cut(path, " ")
		if probe == nil || probe.Path != want || probe.Port != 8080 {
			t.Errorf("%s is asked by %+v", want, probe)
		}
	}
	if p := plan(t, matrix["little"], "catbird"); p.Startup != nil || p.Liveness != nil || p.Readiness != nil {
		t.Errorf("probes that are off: %+v", p)
	}
}

// Go knows neither what a pod's memory is limited to nor what is left for what it
// does not count.
func TestRuntimeFollowsTheLimits(t *testing.T) {
	for _, test := range []struct{ values, memory, procs string }{
		{"", "921MiB", "2"},
		{"resources: {limits: {memory: 1.5G, cpu: 1500m}}", "1287MiB", "2"},
		{"resources: {limits: {memory: 536870912, cpu: 4}}", "460MiB", "4"},
		{"{resources: {limits: {memory: 2Gi, cpu: 100m}, requests: {cpu: 50m}}, runtime: {memoryLimitPercent: 50}}", "1024MiB", "1"},
		{"{resources: {limits: {memory: null, cpu: null}}}", "", ""},
		{"{runtime: {memoryLimitPercent: 0, maxProcs: 7}}", "", "7"},
	} {
		p := plan(t, test.values, "catbird")
		if p.Variables()["GOMEMLIMIT"] != test.memory || p.Variables()["GOMAXPROCS"] != test.procs {
			t.Errorf("%q: GOMEMLIMIT %q, GOMAXPROCS %q, want %q and %q", test.values, p.Variables()["GOMEMLIMIT"], p.Variables()["GOMAXPROCS"], test.memory, test.procs)
		}
	}
}

// Both tracks are one cluster: the same peers, label and secrets.
func TestCanaryDiffersInItsFlagsAlone(t *testing.T) {
	stable, canary := plan(t, matrix["canary"], "catbird"), plan(t, matrix["canary"], "catbird-canary")
	want := map[string][2]string{
		"ENABLE_ACTOR_SYSTEM": {"false", "true"}, "ACTOR_ROLLOUT_PERCENT": {"100", "25"}, "LOG_LEVEL": {"", "debug"}, "MAX_MEMBERS": {"60", "50"},
	}
	for name := range canary.Variables() {
		w, differs := want[name]
		if !differs {
			w = [2]string{canary.Variables()[name], canary.Variables()[name]}
		}
		if stable.Variables()[name] != w[0] || canary.Variables()[name] != w[1] {
			t.Errorf("%s is %q and %q, want %q", name, stable.Variables()[name], canary.Variables()[name], w)
		}
	}
	if len(stable.From) == 0 || len(stable.From) != len(canary.From) {
		t.Errorf("secrets: %v and %v", stable.From, canary.From)
	}
	if n := canary.Variables()["ACTOR_MAX"]; n != "10000000" {
		t.Errorf("a large number becomes %q", n)
	}
	set := find[appsv1.StatefulSet](t, render(t, matrix["canary"]).Objects, "catbird-canary")
	if image := set.Spec.Template.Spec.Containers[0].Image; image != "catbird:v9" || *set.Spec.Replicas != 2 {
		t.Errorf("%d of %s", *set.Spec.Replicas, image)
	}
}

// Yours take the place of the chart's: server-side apply, with which Helm 4 works,
// refuses a container that names a variable twice.
func TestEveryVariableStandsOnce(t *testing.T) {
	for _, text := range []string{"", matrix["everything"], matrix["canary"], `extraEnv: [{name: GOMAXPROCS, value: "1"}, {name: CLUSTER_SECRET, value: a}]`} {
		for _, o := range render(t, text).Objects {
			pod := o.Pod()
			if pod == nil {
				continue
			}
			for _, c := range pod.Spec.Containers {
				seen := map[string]bool{}
				for _, e := range c.Env {
					if seen[e.Name] {
						t.Errorf("%s has %s twice", o, e.Name)
					}
					seen[e.Name] = true
				}
			}
		}
	}
	if p := plan(t, `extraEnv: [{name: GOMAXPROCS, value: "1"}]`, "catbird"); p.Variables()["GOMAXPROCS"] != "1" {
		t.Errorf("GOMAXPROCS is %q", p.Variables()["GOMAXPROCS"])
	}
}

// What a partition holds back must not get the new flag with its next start: the
// flag belongs to the pod's own revision, and not to what all pods share.
func TestTheFlagIsOfThePodsOwnRevision(t *testing.T) {
	objects := render(t, matrix["canary"]).Objects
	for name, want := range map[string]string{"catbird": "false", "catbird-canary": "true"} {
		if m := find[corev1.ConfigMap](t, objects, name); m.Data["ENABLE_ACTOR_SYSTEM"]+m.Data["ACTOR_ROLLOUT_PERCENT"] != "" {
			t.Errorf("all pods of %s share %v", name, m.Data)
		}
		set := find[appsv1.StatefulSet](t, objects, name)
		if i := slices.IndexFunc(set.Spec.Template.Spec.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "ENABLE_ACTOR_SYSTEM" && e.Value == want }); i < 0 {
			t.Errorf("%s does not turn actors %s", name, want)
		}
	}
}

func TestNodesKnowTheirNamesAndAddresses(t *testing.T) {
	p := plan(t, "", "catbird")
	if p.From["NODE_NAME"] != "field metadata.name" || p.From["GOSSIP_ADVERTISE"] != "field status.podIP" || p.Variables()["GOSSIP_JOIN"] != "catbird-nodes:7946" {
		t.Errorf("%v %v", p.From, p.Variables())
	}
	alone := plan(t, matrix["alone on PostgreSQL"], "catbird")
	for _, name := range []string{"GOSSIP_JOIN", "GOSSIP_KEY", "REDIS_URL"} {
		if alone.Variables()[name]+alone.From[name] != "" {
			t.Errorf("a node alone has %s", name)
		}
	}
}

func TestAutoscaling(t *testing.T) {
	r := render(t, matrix["autoscaled"])
	if set := find[appsv1.StatefulSet](t, r.Objects, "catbird"); set.Spec.Replicas != nil {
		t.Errorf("an upgrade would set the number of nodes to %d", *set.Spec.Replicas)
	}
	scaler := find[autoscalingv2.HorizontalPodAutoscaler](t, r.Objects, "catbird")
	names := ""
	for _, m := range scaler.Spec.Metrics {
		switch m.Type {
		case autoscalingv2.PodsMetricSourceType:
			names += m.Pods.Metric.Name + "=" + m.Pods.Target.AverageValue.String() + " "
		default:
			names += string(m.Resource.Name) + " "
		}
	}
	if names != "cpu actor_registry_active_actors=50k memory " || *scaler.Spec.MinReplicas != 4 {
		t.Errorf("min %d, %s", *scaler.Spec.MinReplicas, names)
	}
}

// With the autoscaler the number is nobody's but the autoscaler's. Until it has set
// one, Helm must not let go of it: the API server would make it 1.
func TestAutoscalerTakesOverWithoutAFall(t *testing.T) {
	set := find[appsv1.StatefulSet](t, render(t, "replicas: 5").Objects, "catbird")
	set.Namespace = "chat"
	replicas := func() *int32 {
		t.Helper()
		r, err := open(t).Render(values(t, matrix["autoscaled"]), chart.Options{Cluster: chart.With(set)})
		if err != nil {
			t.Fatal(err)
		}
		return find[appsv1.StatefulSet](t, r.Objects, "catbird").Spec.Replicas
	}
	if got := replicas(); got == nil || *got != 5 {
		t.Errorf("turned on, the set gets %v replicas, want the 5 that it has", got)
	}
	set.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "scale",
		FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:replicas":{}}}`)},
	}}
	if got := replicas(); got != nil {
		t.Errorf("an upgrade undoes what the autoscaler has set: %d", *got)
	}
}

// Nothing stays of a limit that is taken away by null.
func TestBudgetByNull(t *testing.T) {
	budget := find[policyv1.PodDisruptionBudget](t, render(t, `podDisruptionBudget: {maxUnavailable: null, minAvailable: 2}`).Objects, "catbird")
	if budget.Spec.MaxUnavailable != nil || budget.Spec.MinAvailable.IntValue() != 2 {
		t.Errorf("%+v", budget.Spec)
	}
}

func TestBudgetOnlyForSeveral(t *testing.T) {
	budget := find[policyv1.PodDisruptionBudget](t, render(t, "").Objects, "catbird")
	if budget.Spec.MaxUnavailable.IntValue() != 1 || budget.Spec.MinAvailable != nil || *budget.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
		t.Errorf("%+v", budget.Spec)
	}
	if _, err := chart.Find[policyv1.PodDisruptionBudget](render(t, "replicas: 1").Objects, "catbird"); err == nil {
		t.Error("one node alone could never be evicted")
	}
}

// What runs before the release's objects are there can use none of them.
func TestMigrationNeedsNothingOfTheRelease(t *testing.T) {
	for _, name := range []string{"inline", "named secrets", "migration"} {
		var before []chart.Object
		for _, o := range render(t, matrix[name]).Objects {
			if strings.HasPrefix(o.Hook(), "pre-install") {
				before = append(before, o)
			}
		}
		checkReferences(t, before)
		job := find[batchv1.Job](t, before, "catbird-migrate")
		if args := strings.Join(job.Spec.Template.Spec.Containers[0].Args, " "); args != "migrate --timeout=240s" {
			t.Errorf("%s: runs %s", name, args)
		}
	}
}

// What the nodes need to reach the database, the migration needs too: a private
// authority's certificate, a password from elsewhere, a proxy that runs beside it.
func TestMigrationReachesTheDatabaseAsNodesDo(t *testing.T) {
	r := render(t, `
database: {existingSecret: ""}
migration: {job: {enabled: true, timeoutSeconds: 900, serviceAccountName: vault, podLabels: {egress: database}, podAnnotations: {inject: "false"}}}
extraEnv: [{name: DATABASE_URL, value: "postgresql://$(USER)@db/x?sslmode=verify-full&sslrootcert=/ca/ca.crt"}]
extraEnvFrom: [{secretRef: {name: database-user}}]
extraVolumes: [{name: ca, secret: {secretName: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /ca, readOnly: true}]
initContainers: [{name: proxy, image: sql-proxy, restartPolicy: Always}]`)
	job := find[batchv1.Job](t, r.Objects, "catbird-migrate")
	node := find[appsv1.StatefulSet](t, r.Objects, "catbird").Spec.Template.Spec
	pod := job.Spec.Template.Spec
	c := pod.Containers[0]
	if len(c.Env) != 1 || c.Env[0].Name != "DATABASE_URL" || !strings.HasSuffix(c.Env[0].Value, "ca.crt") || len(c.EnvFrom) != 1 {
		t.Errorf("variables %+v, from %+v", c.Env, c.EnvFrom)
	}
	if !reflect.DeepEqual(c.VolumeMounts, node.Containers[0].VolumeMounts) || !reflect.DeepEqual(pod.Volumes, node.Volumes) ||
		!reflect.DeepEqual(pod.InitContainers, node.InitContainers) || len(pod.Volumes) != 1 || len(pod.InitContainers) != 1 {
		t.Errorf("mounts %v, volumes %v, before it %v", c.VolumeMounts, pod.Volumes, pod.InitContainers)
	}
	if *job.Spec.ActiveDeadlineSeconds != 900 || pod.ServiceAccountName != "vault" ||
		job.Spec.Template.Labels["egress"] != "database" || job.Spec.Template.Annotations["inject"] != "false" {
		t.Errorf("%d s, account %s, labels %v", *job.Spec.ActiveDeadlineSeconds, pod.ServiceAccountName, job.Spec.Template.Labels)
	}
	for _, e := range node.Containers[0].Env {
		if e.Name == "DATABASE_URL" && e.ValueFrom != nil {
			t.Errorf("a node has %+v", e)
		}
	}
}

// Helm gives up on a hook after five minutes, and would report a migration that
// goes on as failed.
func TestHelmWaitsForTheMigration(t *testing.T) {
	job := find[batchv1.Job](t, render(t, "migration: {job: {enabled: true}}").Objects, "catbird-migrate")
	if got := *job.Spec.ActiveDeadlineSeconds; got >= 300 {
		t.Errorf("the Job may take %d s", got)
	}
}

// The nodes' secret may come from anywhere: what asks them has the same.
func TestDataIsLookedThroughDaily(t *testing.T) {
	for text, want := range map[string]string{
		"": "secretKeyRef catbird", `clusterSecret: {existingSecret: mine}`: "secretKeyRef mine",
		`extraEnv: [{name: CLUSTER_SECRET, value: plain}]`: "plain",
	} {
		r := render(t, text)
		job := find[batchv1.CronJob](t, r.Objects, "catbird-check")
		c := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
		if got := strings.Join(append(c.Command, c.Args...), " "); got != "catbirdctl --timeout=3600s check --since=48h" {
			t.Errorf("runs %s", got)
		}
		env := map[string]string{}
		for _, e := range c.Env {
			if env[e.Name] = e.Value; e.ValueFrom != nil {
				env[e.Name] = "secretKeyRef " + e.ValueFrom.SecretKeyRef.Name
			}
		}
		if env["CLUSTER_SECRET"] != want || !strings.HasPrefix(env["CATBIRD_NODE"], "http://catbird-0.catbird-nodes:8081,http://catbird-1.catbird-nodes:8081") || env["DATABASE_URL"] != "" {
			t.Errorf("%s: knows %v", text, env)
		}
	}
	if _, err := chart.Find[batchv1.CronJob](render(t, "check: {enabled: false}").Objects, "catbird-check"); err == nil {
		t.Error("it is made although it is off")
	}
}

// Whoever has no tokens to give still sees whether the client service leads to a
// node that works.
func TestClientServiceIsTriedInEveryCase(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "--anonymous",
		"jwtSecret: {value: a}":            "",
		"{jwtSecret: {existingSecret: a}}": "",
		"{tests: {keysSecret: a}, jwtSecret: {value: a}}": "--keys=/people/file",
		"tests: {tokensSecret: a}":                        "--token=/people/file",
	} {
		pod := find[corev1.Pod](t, render(t, text).Objects, "catbird-test-smoke")
		c := pod.Spec.Containers[0]
		if got := strings.TrimSpace(strings.TrimPrefix(strings.Join(c.Args, " "), "smoke --url=http://catbird:80")); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if signs := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "JWT_SECRET" }); signs != (want == "") {
			t.Errorf("%s: with the secret %v", text, signs)
		}
	}
}

// Nobody outside reaches /metrics or the internal port through what is public.
func TestOnlyTheAPIIsPublic(t *testing.T) {
	r := render(t, `{ingress: {enabled: true, hosts: [a]}, httpRoute: {enabled: true, parentRefs: [{name: g}]}}`)
	for _, p := range find[networkingv1.Ingress](t, r.Objects, "catbird").Spec.Rules[0].HTTP.Paths {
		if p.Path != "/xrpc" {
			t.Errorf("the Ingress passes %s on", p.Path)
		}
	}
	if got := find[gatewayv1.HTTPRoute](t, r.Objects, "catbird").Spec.Rules[0].Matches; len(got) != 1 || *got[0].Path.Value != "/xrpc" {
		t.Errorf("the HTTPRoute passes on %+v", got)
	}
	if ports := find[corev1.Service](t, r.Objects, "catbird").Spec.Ports; len(ports) != 1 || ports[0].TargetPort.StrVal != "http" {
		t.Errorf("the client service has %+v", ports)
	}
}
