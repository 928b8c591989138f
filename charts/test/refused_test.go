package charttest

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"sigs.k8s.io/yaml"

	"catbird/charts/test/chart"
)

// refused are values that are wrong, and what the user is told.
var refused = map[string]struct{ values, says string }{
	// The schema.
	"a misspelt name":           {`replica: 2`, "replica"},
	"a misspelt name inside":    {`shutdown: {drainDelay: 5}`, "drainDelay"},
	"a number as text":          {`replicas: "3"`, "/replicas"},
	"no replicas":               {`replicas: 0`, "/replicas"},
	"more than all":             {`actors: {rolloutPercent: 101}`, "/actors/rolloutPercent"},
	"a flag that is no flag":    {`actors: {enabled: "on"}`, "/actors/enabled"},
	"an unknown setting":        {`config: {LEASE_TLL: 5s}`, "LEASE_TLL"},
	"a setting of the chart":    {`config: {NODE_NAME: a}`, "NODE_NAME"},
	"a secret as a setting":     {`config: {JWT_SECRET: a}`, "JWT_SECRET"},
	"no duration":               {`config: {LEASE_TTL: 5}`, "/config/LEASE_TTL"},
	"no DID":                    {`config: {SERVICE_DID: "https://chat"}`, "/config/SERVICE_DID"},
	"an unknown policy":         {`config: {REMOVE_POLICY: nobody}`, "/config/REMOVE_POLICY"},
	"of the canary too":         {`canary: {config: {GOSSIP_JOIN: a}}`, "GOSSIP_JOIN"},
	"another database":          {`database: {url: "mysql://db"}`, "/database/url"},
	"another cache":             {`redis: {url: "memcached://a"}`, "/redis/url"},
	"no digest":                 {`image: {digest: "sha256:12"}`, "/image/digest"},
	"no tag":                    {`image: {tag: "a b"}`, "/image/tag"},
	"a policy of pulling":       {`image: {pullPolicy: Sometimes}`, "/image/pullPolicy"},
	"no port":                   {`service: {port: 70000}`, "/service/port"},
	"no path":                   {`ingress: {paths: [xrpc]}`, "/ingress/paths"},
	"an ingress for nobody":     {`ingress: {enabled: true}`, "/ingress/hosts"},
	"a route without a gate":    {`httpRoute: {enabled: true}`, "/httpRoute/parentRefs"},
	"a variable without one":    {`extraEnv: [{value: a}]`, "/extraEnv"},
	"runbooks of nowhere":       {`prometheusRule: {runbooks: docs/runbooks.md}`, "/prometheusRule/runbooks"},
	"affinity of a kind":        {`podAntiAffinity: always`, "/podAntiAffinity"},
	"a label that is none":      {`podLabels: {a: 1}`, "/podLabels/a"},
	"a way to join":             {`gossipJoin: [other]`, "/gossipJoin"},
	"memory in words":           {`resources: {limits: {memory: much}}`, "/resources/limits/memory"},
	"CPU in words":              {`resources: {limits: {cpu: two}}`, "/resources/limits/cpu"},
	"a resource misspelt":       {`resources: {limits: {memry: 1Gi}}`, "/resources/limits"},
	"a name with a dot":         {`fullnameOverride: chat.example`, "/fullnameOverride"},
	"a name with a digit first": {`fullnameOverride: 1chat`, "/fullnameOverride"},
	"a label with a blank":      {`podLabels: {team: "a b"}`, "/podLabels/team"},
	"a label's name":            {`commonLabels: {"a b": c}`, "/commonLabels"},
	"a port of the system":      {`service: {type: NodePort, nodePort: 80}`, "/service/nodePort"},
	"a host with a scheme":      {`ingress: {enabled: true, hosts: ["https://chat.example.com"]}`, "/ingress/hosts/0"},
	"a hostname with a port":    {`httpRoute: {enabled: true, parentRefs: [{name: g}], hostnames: ["chat.example.com:443"]}`, "/httpRoute/hostnames/0"},
	"no key":                    {`gossipKey: {value: secret}`, "/gossipKey/value"},
	"a key of 20 bytes":         {`gossipKey: {value: MDEyMzQ1Njc4OTAxMjM0NTY3ODk=}`, "/gossipKey/value"},
	"readiness of nothing":      {`probes: {readiness: {path: /nonsense}}`, "/probes/readiness/path"},
	"always ready":              {`probes: {readiness: {path: /health/live}}`, "/probes/readiness/path"},
	"restarted for a database":  {`probes: {liveness: {path: /health/ready}}`, "/probes/liveness/path"},
	"alive twice":               {`probes: {liveness: {successThreshold: 2}}`, "/probes/liveness/successThreshold"},
	"asked for too short":       {`probes: {readiness: {timeoutSeconds: 1}}`, "/probes/readiness/timeoutSeconds"},
	"privileged":                {`securityContext: {privileged: true}`, "/securityContext/privileged"},
	"root":                      {`podSecurityContext: {runAsUser: 0}`, "/podSecurityContext/runAsUser"},
	"maybe root":                {`podSecurityContext: {runAsNonRoot: false}`, "/podSecurityContext/runAsNonRoot"},
	"a root that is written":    {`securityContext: {readOnlyRootFilesystem: false}`, "/securityContext/readOnlyRootFilesystem"},
	"what root may":             {`securityContext: {capabilities: {add: [SYS_ADMIN]}}`, "/securityContext/capabilities/add"},
	"all that root may":         {`securityContext: {capabilities: {drop: []}}`, "/securityContext/capabilities/drop"},
	"no time":                   {`config: {REQUEST_TIMEOUT: 0s}`, "/config/REQUEST_TIMEOUT"},
	"too few connections":       {`config: {DATABASE_MAX_CONNECTIONS: 2}`, "/config/DATABASE_MAX_CONNECTIONS"},
	"no level":                  {`config: {LOG_LEVEL: verbose}`, "/config/LOG_LEVEL"},
	"no collector":              {`config: {OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4317"}`, "/config/OTEL_EXPORTER_OTLP_ENDPOINT"},
	"spread by nothing":         {`topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway}]`, "/topologySpreadConstraints/0"},
	"a peer that is nobody":     {`networkPolicy: {internal: [{}]}`, "/networkPolicy/internal/0"},
	"a metric of no kind":       {`autoscaling: {extraMetrics: [{type: Bogus}]}`, "/autoscaling/extraMetrics/0/type"},
	"a host twice":              {`ingress: {enabled: true, hosts: [a, a]}`, "/ingress/hosts"},
	"no time of day":            {`check: {schedule: "99 99 * * *"}`, "/check/schedule"},
	"four fields":               {`check: {schedule: "1 2 * *"}`, "/check/schedule"},
	"no cron":                   {`check: {schedule: daily}`, "/check/schedule"},
	"no span":                   {`check: {since: "two days"}`, "/check/since"},
	// Values that do not fit each other.
	"several on one file":        {`{database: {embedded: {enabled: true}}, redis: {enabled: false}}`, "belongs to one node"},
	"a canary on one file":       {`{replicas: 1, canary: {enabled: true}, database: {embedded: {enabled: true}}, redis: {enabled: false}}`, "belongs to one node"},
	"several without Redis":      {`redis: {enabled: false}`, "several nodes need Redis"},
	"growing without Redis":      {`{replicas: 1, redis: {enabled: false}, autoscaling: {enabled: true, minReplicas: 1}}`, "several nodes need Redis"},
	"no database":                {`database: {existingSecret: ""}`, "database.existingSecret"},
	"no Redis":                   {`redis: {existingSecret: ""}`, "redis.existingSecret"},
	"two secrets":                {`clusterSecret: {value: a, existingSecret: b}`, "clusterSecret: set either"},
	"two keys":                   {`gossipKey: {value: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=, existingSecret: b}`, "gossipKey: set either"},
	"killed while it leaves":     {`shutdown: {terminationGracePeriodSeconds: 44}`, "44 is less than the 45"},
	"killed because of a wait":   {`shutdown: {preStopSleepSeconds: 1, terminationGracePeriodSeconds: 45}`, "45 is less than the 46"},
	"gone before it is noticed":  {`shutdown: {drainDelaySeconds: 3}`, "after 3 s, before readiness probes have told of it (4 s)"},
	"noticed too late":           {`probes: {readiness: {periodSeconds: 3}}`, "(6 s)"},
	"more at least than at most": {`autoscaling: {enabled: true, maxReplicas: 2}`, "autoscaling.maxReplicas"},
	"nothing to scale by":        {`autoscaling: {enabled: true, cpuUtilization: 0}`, "nothing to go by"},
	"two budgets":                {`podDisruptionBudget: {minAvailable: 2}`, "either maxUnavailable or minAvailable"},
	"no budget":                  {`podDisruptionBudget: {maxUnavailable: ""}`, "either maxUnavailable or minAvailable"},
	"counted twice":              {`{serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}`, "count every node twice"},
	"migrated elsewhere":         {`{replicas: 1, redis: {enabled: false}, database: {embedded: {enabled: true}}, migration: {job: {enabled: true}}}`, "migration.job.enabled"},
	"a partition of nothing":     {`updateStrategy: {type: OnDelete, partition: 1}`, "updateStrategy.partition"},
	"a leaving that is longer":   {`extraEnv: [{name: DRAIN_TIMEOUT, value: 300s}]`, "extraEnv: DRAIN_TIMEOUT is set by shutdown.drainTimeoutSeconds"},
	"an argument for that":       {`extraArgs: [--drain-timeout=300s]`, "extraArgs: --drain-timeout is set by shutdown.drainTimeoutSeconds"},
	"an argument of two words":   {`extraArgs: [--drain-delay, 1m]`, "extraArgs: --drain-delay is set by shutdown.drainDelaySeconds"},
	"a flag against the flag":    {`extraArgs: [--no-enable-actor-system]`, "set by actors.enabled"},
	"one name for all":           {`extraEnv: [{name: NODE_NAME, value: a}]`, "extraEnv: NODE_NAME is set by the name of the pod"},
	"a variable twice":           {`extraEnv: [{name: A, value: a}, {name: A, value: b}]`, "extraEnv: A stands there twice"},
	"a container of the chart":   {`sidecars: [{name: catbird, image: a}]`, "sidecars: catbird stands there twice, or is the chart's own"},
	"two containers of a name":   {`{initContainers: [{name: w, image: a}], sidecars: [{name: w, image: a}]}`, "sidecars: w stands there twice"},
	"before the server as it":    {`initContainers: [{name: catbird, image: a}]`, "initContainers: catbird stands there twice, or is"},
	"as the migration":           {`{migration: {job: {enabled: true}}, initContainers: [{name: migrate, image: a}]}`, "initContainers: migrate stands there twice, or is"},
	"two mounts at a place":      {`{extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /x}, {name: a, mountPath: /x}]}`, "extraVolumeMounts: /x stands there twice"},
	"a mount over the data":      {`{replicas: 1, redis: {enabled: false}, database: {embedded: {enabled: true}}, extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /data}]}`, "/data stands there twice, or is the chart's own"},
	"a port of the server's":     {`sidecars: [{name: a, image: a, ports: [{name: http, containerPort: 1}]}]`, "sidecars: a has a port http"},
	"spread twice":               {`topologySpreadConstraints: [{maxSkew: 2, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}]`, "set spread.host to none"},
	"spread over zones twice":    {`topologySpreadConstraints: [{maxSkew: 2, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}]`, "set spread.zone to none"},
	"a byte of memory":           {`resources: {requests: {memory: 1}, limits: {memory: 1}}`, "resources.limits.memory: 1 is less than"},
	"everybody away":             {`podDisruptionBudget: {maxUnavailable: "100%"}`, "all of the 3 nodes could be evicted at once"},
	"nobody has to stay":         {`podDisruptionBudget: {maxUnavailable: "", minAvailable: 0}`, "all of the 3 nodes could be evicted at once"},
	"a mount of nothing":         {`extraVolumeMounts: [{name: ca, mountPath: /ca}]`, "extraVolumeMounts: there is no volume ca"},
	"a port for nobody":          {`service: {nodePort: 30080}`, "service.nodePort: belongs to"},
	"a policy for nobody":        {`service: {externalTrafficPolicy: Local}`, "service.externalTrafficPolicy: belongs to"},
	"more memory than there is":  {`resources: {requests: {memory: 2Gi}}`, "resources.requests.memory: 2Gi is above the limit of 1Gi"},
	"more CPU than there is":     {`resources: {requests: {cpu: 2500m}}`, "resources.requests.cpu: 2500m is above the limit of 2"},
	"memory in exabytes":         {`resources: {limits: {memory: 1Ei}}`, "resources.limits.memory"},
	"a partition beyond":         {`updateStrategy: {partition: 4}`, "updateStrategy.partition: 4 is beyond the last of 3 nodes"},
	"a canary's partition":       {`canary: {enabled: true, partition: 2}`, "canary.partition: 2 is beyond the last of 1"},
	"two times to live":          {`canary: {config: {LEASE_TTL: 3s}}`, "canary.config.LEASE_TTL: is one for all nodes"},
	"nobody ever away":           {`podDisruptionBudget: {maxUnavailable: 0}`, "none of the 3 nodes could ever be evicted"},
	"no percentage away":         {`podDisruptionBudget: {maxUnavailable: "0%"}`, "none of the 3 nodes could ever be evicted"},
	"everybody there":            {`podDisruptionBudget: {maxUnavailable: "", minAvailable: 3}`, "none of the 3 nodes could ever be evicted"},
	"nearly everybody there":     {`podDisruptionBudget: {maxUnavailable: "", minAvailable: "70%"}`, "none of the 3 nodes could ever be evicted"},
	"a share of nothing":         {`{autoscaling: {enabled: true}, resources: {requests: {cpu: null}, limits: {cpu: null}}}`, "autoscaling.cpuUtilization: is a share of resources.requests.cpu"},
	"two kinds of people":        {`tests: {keysSecret: a, tokensSecret: b}`, "tests: set either"},
}

func TestWrongValuesAreRefused(t *testing.T) {
	c := open(t)
	for name, test := range refused {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			_, err := c.Render(values(t, test.values), chart.Options{})
			if err == nil {
				t.Fatalf("%s is taken", test.values)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("says %q, want something with %q", err, test.says)
			}
		})
	}
}

// The daily check may come when cron can say it.
func TestSchedulesAreTaken(t *testing.T) {
	for _, schedule := range []string{"17 3 * * *", "@daily", "*/15 0-6 1,15 * MON-FRI", "0 0 1 JAN,JUL 0", "5,35 * * * 7"} {
		if _, err := open(t).Render(values(t, fmt.Sprintf("check: {schedule: %q}", schedule)), chart.Options{}); err != nil {
			t.Errorf("%s: %v", schedule, err)
		}
	}
}

// A release may be called what no Service may be called.
func TestReleasesNames(t *testing.T) {
	for _, release := range []string{"my.chat", "1chat"} {
		_, err := open(t).Render(nil, chart.Options{Release: release})
		if err == nil || !strings.Contains(err.Error(), "set fullnameOverride") {
			t.Errorf("%s: %v", release, err)
		}
		if _, err := open(t).Render(values(t, "fullnameOverride: chat"), chart.Options{Release: release}); err != nil {
			t.Errorf("%s: %v", release, err)
		}
	}
}

// Null takes a default away. A value without which the chart would compute with
// nothing is missed by name; what may be missing renders.
func TestNullIsMissed(t *testing.T) {
	var defaults chart.Values
	if err := yaml.Unmarshal([]byte(read(t, chart.Dir+"/values.yaml")), &defaults); err != nil {
		t.Fatal(err)
	}
	// What a Kubernetes type leaves out is left out.
	free := []string{
		"podDisruptionBudget.maxUnavailable", "podDisruptionBudget.minAvailable", "autoscaling.behavior.", "dashboard.labels.", ".resources.", "resources.",
		"podSecurityContext.runAsUser", "podSecurityContext.runAsGroup", "podSecurityContext.fsGroup", "podSecurityContext.fsGroupChangePolicy",
	}
	c := open(t)
	n := 0
	for path := range leaves("", defaults) {
		n++
		text := "null"
		for _, name := range slices.Backward(strings.Split(path, ".")) {
			text = fmt.Sprintf("{%s: %s}", name, text)
		}
		if path == "podDisruptionBudget.maxUnavailable" {
			text = "{podDisruptionBudget: {maxUnavailable: null, minAvailable: 1}}"
		}
		_, err := c.Render(values(t, text), chart.Options{})
		name := path[strings.LastIndex(path, ".")+1:]
		switch {
		case slices.ContainsFunc(free, func(s string) bool {
			return strings.HasPrefix(path, s) || strings.HasPrefix(s, ".") && strings.Contains(path, s)
		}):
			if err != nil {
				t.Errorf("%s may not be null: %v", path, err)
			}
		case err == nil:
			t.Errorf("%s may be null", path)
		case !strings.Contains(err.Error(), "missing propert") || !strings.Contains(err.Error(), "'"+name+"'"):
			t.Errorf("%s: %v", path, err)
		}
	}
	if n < 150 {
		t.Errorf("%d values were tried", n)
	}
}

// leaves yields the paths of all values and of what holds them.
func leaves(prefix string, v map[string]any) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name, value := range v {
			if !yield(prefix + name) {
				return
			}
			inner, _ := value.(map[string]any)
			for path := range leaves(prefix+name+".", inner) {
				if !yield(path) {
					return
				}
			}
		}
	}
}

// A copy of the chart without its alerts says so instead of making none.
func TestMissingFilesAreRefused(t *testing.T) {
	for _, test := range []struct{ values, file string }{
		{`prometheusRule: {enabled: true}`, "files/rules.yaml"},
		{`dashboard: {enabled: true}`, "files/dashboard.json"},
	} {
		_, err := open(t).Render(values(t, test.values), chart.Options{Files: map[string]string{test.file: ""}})
		if err == nil || !strings.Contains(err.Error(), test.file) {
			t.Errorf("without %s: %v", test.file, err)
		}
	}
}

func TestLint(t *testing.T) {
	version, err := common.ParseKubeVersion("v1.30.0")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", matrix["everything"]} {
		for _, m := range lint.RunAll(chart.Dir, values(t, text), "chat", lint.WithKubeVersion(version)).Messages {
			if !strings.Contains(m.Err.Error(), "icon is recommended") {
				t.Errorf("%v: %v", m.Path, m.Err)
			}
		}
	}
}
