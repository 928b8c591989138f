package charttest

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"sigs.k8s.io/yaml"

	"catbird/charts/test/chart"
	"catbird/charts/test/manifests"
)

// binaries is where the server is built, for all tests once.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "catbird-charts-")
	if err != nil {
		panic(err)
	}
	binaries = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(binaries)
		os.Exit(code)
	}))
}

// Where what is tested lies, from here.
const (
	repository = "../.."
	plainDir   = "../../k8s"
)

func open(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := chart.Open(chart.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// values reads values as a user writes them.
func values(t *testing.T, text string) chart.Values {
	t.Helper()
	var v chart.Values
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func render(t *testing.T, text string) *chart.Release {
	t.Helper()
	r, err := open(t).Render(values(t, text), chart.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// find returns the object of type T that is called name.
func find[T any](t *testing.T, objects []chart.Object, name string) *T {
	t.Helper()
	o, err := chart.Find[T](objects, name)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// matrix are values in use: what is on by itself, what is not, and all of it.
var matrix = map[string]string{
	"default": "",
	"single": `
replicas: 1
redis: {enabled: false}
database: {embedded: {enabled: true, storageClass: fast}}
shutdown: {drainDelaySeconds: 0}`,
	"alone on PostgreSQL": `
replicas: 1
redis: {enabled: false}`,
	"inline": `
database: {url: "postgresql://catbird:p%40ss@db/catbird"}
redis: {url: "redis-sentinel://a,b,c/catbird"}
clusterSecret: {value: secret}
gossipKey: {value: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}
jwtSecret: {value: secret}
migration: {job: {enabled: true, annotations: {a: b}}}`,
	"named secrets": `
clusterSecret: {existingSecret: mine, existingSecretKey: cluster}
gossipKey: {existingSecret: mine, existingSecretKey: gossip}
jwtSecret: {existingSecret: mine, existingSecretKey: jwt}
migration: {job: {enabled: true}}
tests: {tokensSecret: people}`,
	"canary": `
actors: {enabled: false}
canary: {enabled: true, replicas: 2, tag: v9, actors: {rolloutPercent: 25}, config: {LOG_LEVEL: debug, LEASE_TTL: 5s, MAX_MEMBERS: 50}}
config: {LEASE_TTL: 5s, MAX_MEMBERS: 60, ACTOR_MAX: 10000000, RATE_LIMIT_RPS: 0.5, ENFORCE_LXM: true}`,
	"partition": `{updateStrategy: {partition: 2}, actors: {rolloutPercent: 5}}`,
	"autoscaled": `
autoscaling: {enabled: true, minReplicas: 4, activeActors: 50000, extraMetrics: [{type: Resource, resource: {name: memory, target: {type: Utilization, averageUtilization: 80}}}]}
podDisruptionBudget: {maxUnavailable: "", minAvailable: "66%"}`,
	"everything": `
nameOverride: chat
commonLabels: {team: messaging}
commonAnnotations: {contact: "on call"}
image: {registry: registry.example.com, repository: chat/catbird, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullSecrets: [registry]}
listenAddress: "::"
clusterLabel: blue
gossipJoin: ["other-nodes:7946"]
shutdown: {preStopSleepSeconds: 3, marginSeconds: 7}
probes: {liveness: {initialDelaySeconds: 1}}
service: {type: LoadBalancer, port: 8080, nodePort: 30080, annotations: {lb: "yes"}, labels: {tier: edge}, trafficDistribution: PreferClose, externalTrafficPolicy: Local, ipFamilyPolicy: PreferDualStack}
ingress: {enabled: true, className: nginx, annotations: {a: b}, hosts: [chat.example.com, ""], paths: [/xrpc, /health], tls: [{hosts: [chat.example.com], secretName: tls}]}
httpRoute: {enabled: true, annotations: {a: b}, parentRefs: [{name: gateway, namespace: infra, sectionName: https}], hostnames: [chat.example.com], requestTimeout: 60s}
networkPolicy: {clients: [{podSelector: {matchLabels: {app: ingress}}}], internal: [{namespaceSelector: {}}], gossip: [{ipBlock: {cidr: 10.0.0.0/8}}]}
serviceMonitor: {enabled: true, interval: 15s, scrapeTimeout: 10s, labels: {release: prometheus}, relabelings: [{action: labeldrop, regex: pod}], metricRelabelings: [{action: drop, sourceLabels: [__name__], regex: go_.*}]}
prometheusRule: {enabled: true, labels: {release: prometheus}, runbooks: https://wiki.example.org/runbooks}
dashboard: {enabled: true, annotations: {grafana_folder: Chat}}
serviceAccount: {name: chat, annotations: {a: b}}
podLabels: {sidecar: none}
podAnnotations: {a: b, kubectl.kubernetes.io/default-container: proxy}
podAntiAffinity: hard
spread: {zone: DoNotSchedule, host: none}
topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app.kubernetes.io/name: chat}}}]
nodeSelector: {disk: fast}
tolerations: [{key: chat, operator: Exists}]
priorityClassName: high
runtimeClassName: gvisor
schedulerName: mine
dnsPolicy: ClusterFirst
dnsConfig: {options: [{name: ndots, value: "2"}]}
hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]
check: {timeZone: Europe/Berlin, since: "", podLabels: {egress: none}, podAnnotations: {a: b}}
tests: {keysSecret: people, podLabels: {a: b}, podAnnotations: {a: b}}
extraEnv: [{name: OTEL_EXPORTER_OTLP_HEADERS, valueFrom: {secretKeyRef: {name: traces, key: headers}}}]
extraEnvFrom: [{configMapRef: {name: more}}]
extraArgs: [--log-format=text]
extraVolumes: [{name: ca, configMap: {name: ca}}]
extraVolumeMounts: [{name: ca, mountPath: /ca}]
initContainers: [{name: wait, image: busybox}]
sidecars: [{name: proxy, image: envoy}]
extraObjects:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: more}, data: {of: "{{ .Release.Name }}"}}
- "{apiVersion: v1, kind: ConfigMap, metadata: {name: ca}}"`,
	"migration": `
migration: {job: {enabled: true, podLabels: {a: b}, podAnnotations: {a: b}, serviceAccountName: mine}}
extraEnv: [{name: PGAPPNAME, value: catbird}, {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: mine, key: database}}}]
extraEnvFrom: [{secretRef: {name: mine}}]
extraVolumes: [{name: ca, secret: {secretName: mine}}]
extraVolumeMounts: [{name: ca, mountPath: /ca}]
initContainers: [{name: proxy, image: sql-proxy, restartPolicy: Always}]`,
	"pod monitor":    `{podMonitor: {enabled: true}, fullnameOverride: x, namespaceOverride: elsewhere}`,
	"little":         `{serviceAccount: {create: false}, probes: {enabled: false}, podDisruptionBudget: {enabled: false}, networkPolicy: {enabled: false}, tests: {enabled: false}, spread: {zone: none, host: none}, podAntiAffinity: none, gossipKey: {enabled: false}, resources: {}}`,
	"other affinity": `{affinity: {nodeAffinity: {}}, updateStrategy: {type: OnDelete}, podManagementPolicy: OrderedReady, runtime: {memoryLimitPercent: 0, maxProcs: 3}}`,
}

// eachRelease calls f with what is rendered for each of the matrix, and for the
// example for production.
func eachRelease(t *testing.T, f func(t *testing.T, r *chart.Release)) {
	production, err := manifests.ReadValues(chart.Dir + "/values-production.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]chart.Values{"production": production}
	for name, text := range matrix {
		all[name] = values(t, text)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			r, err := open(t).Render(all[name], chart.Options{})
			if err != nil {
				t.Fatal(err)
			}
			f(t, r)
		})
	}
}
