package charttest

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"

	"catbird/charts/test/chart"
)

// refused are values that are wrong, and what the user is told.
var refused = map[string]struct{ values, says string }{
	// The schema.
	"a misspelt name":        {`replica: 2`, "replica"},
	"a misspelt name inside": {`shutdown: {drainDelay: 5}`, "drainDelay"},
	"a number as text":       {`replicas: "3"`, "/replicas"},
	"no replicas":            {`replicas: 0`, "/replicas"},
	"more than all":          {`actors: {rolloutPercent: 101}`, "/actors/rolloutPercent"},
	"a flag that is no flag": {`actors: {enabled: "on"}`, "/actors/enabled"},
	"an unknown setting":     {`config: {LEASE_TLL: 5s}`, "LEASE_TLL"},
	"a setting of the chart": {`config: {NODE_NAME: a}`, "NODE_NAME"},
	"a secret as a setting":  {`config: {JWT_SECRET: a}`, "JWT_SECRET"},
	"no duration":            {`config: {LEASE_TTL: 5}`, "/config/LEASE_TTL"},
	"no DID":                 {`config: {SERVICE_DID: "https://chat"}`, "/config/SERVICE_DID"},
	"an unknown policy":      {`config: {REMOVE_POLICY: nobody}`, "/config/REMOVE_POLICY"},
	"of the canary too":      {`canary: {config: {GOSSIP_JOIN: a}}`, "GOSSIP_JOIN"},
	"another database":       {`database: {url: "mysql://db"}`, "/database/url"},
	"another cache":          {`redis: {url: "memcached://a"}`, "/redis/url"},
	"no digest":              {`image: {digest: "sha256:12"}`, "/image/digest"},
	"no tag":                 {`image: {tag: "a b"}`, "/image/tag"},
	"a policy of pulling":    {`image: {pullPolicy: Sometimes}`, "/image/pullPolicy"},
	"no port":                {`service: {port: 70000}`, "/service/port"},
	"no path":                {`ingress: {paths: [xrpc]}`, "/ingress/paths"},
	"an ingress for nobody":  {`ingress: {enabled: true}`, "/ingress/hosts"},
	"a route without a gate": {`httpRoute: {enabled: true}`, "/httpRoute/parentRefs"},
	"a variable without one": {`extraEnv: [{value: a}]`, "/extraEnv"},
	"runbooks of nowhere":    {`prometheusRule: {runbooks: docs/runbooks.md}`, "/prometheusRule/runbooks"},
	"affinity of a kind":     {`podAntiAffinity: always`, "/podAntiAffinity"},
	"a label that is none":   {`podLabels: {a: 1}`, "/podLabels/a"},
	"a way to join":          {`gossipJoin: [other]`, "/gossipJoin"},
	// Values that do not fit each other.
	"several on one file":        {`{database: {embedded: {enabled: true}}, redis: {enabled: false}}`, "belongs to one node"},
	"a canary on one file":       {`{replicas: 1, canary: {enabled: true}, database: {embedded: {enabled: true}}, redis: {enabled: false}}`, "belongs to one node"},
	"several without Redis":      {`redis: {enabled: false}`, "several nodes need Redis"},
	"growing without Redis":      {`{replicas: 1, redis: {enabled: false}, autoscaling: {enabled: true, minReplicas: 1}}`, "several nodes need Redis"},
	"no database":                {`database: {existingSecret: ""}`, "database.existingSecret"},
	"no Redis":                   {`redis: {existingSecret: ""}`, "redis.existingSecret"},
	"two secrets":                {`clusterSecret: {value: a, existingSecret: b}`, "clusterSecret: set either"},
	"two keys":                   {`gossipKey: {value: a, existingSecret: b}`, "gossipKey: set either"},
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
	"memory in words":            {`resources: {limits: {memory: much}}`, "resources.limits.memory"},
	"CPU in words":               {`resources: {limits: {cpu: two}}`, "resources.limits.cpu"},
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
