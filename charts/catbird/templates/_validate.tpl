{{/*
What the schema can not say: values that are right alone and wrong together. Each
message says what to do. The schema has seen to it that every value is there.
*/}}
{{- define "catbird.validate" -}}
{{- range $part := list "Names" "Servers" "Shutdown" "Scale" "Updates" "Extras" "Resources" "Service" "Monitoring" }}
{{- include (printf "catbird.validate%s" $part) $ }}
{{- end }}
{{- end }}

{{/* Objects are called after the release, and Helm takes more for its name than Kubernetes for a Service's. */}}
{{- define "catbird.validateNames" -}}
{{- $name := include "catbird.fullname" . }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "fullnameOverride: objects would be called %q, and a Service's name begins with a letter and has letters, digits and - alone: set fullnameOverride" $name) }}
{{- end }}
{{- end }}

{{/* PostgreSQL, Redis, and what is secret. */}}
{{- define "catbird.validateServers" -}}
{{- $v := .Values }}
{{- $several := include "catbird.several" . }}
{{- if and $v.database.embedded.enabled (or $several $v.redis.enabled) }}
{{- fail "database.embedded: the embedded database belongs to one node: set replicas to 1, redis.enabled, canary.enabled and autoscaling.enabled to false, or use PostgreSQL" }}
{{- end }}
{{- if and $several (not $v.redis.enabled) }}
{{- fail "redis.enabled: several nodes need Redis: enable it, or set replicas to 1 and canary.enabled and autoscaling.enabled to false" }}
{{- end }}
{{- if not (or $v.database.embedded.enabled $v.database.url $v.database.existingSecret (include "catbird.yours" (list . "DATABASE_URL"))) }}
{{- fail "database: set database.existingSecret, database.url or database.embedded.enabled" }}
{{- end }}
{{- if and $v.redis.enabled (not (or $v.redis.url $v.redis.existingSecret (include "catbird.yours" (list . "REDIS_URL")))) }}
{{- fail "redis: set redis.existingSecret or redis.url, or redis.enabled to false" }}
{{- end }}
{{- if and $v.migration.job.enabled $v.database.embedded.enabled }}
{{- fail "migration.job.enabled: the embedded database lies on the node's own volume and is migrated there" }}
{{- end }}
{{- range $name := list "clusterSecret" "gossipKey" "jwtSecret" }}
{{- $secret := index $v $name }}
{{- if and $secret.value $secret.existingSecret }}
{{- fail (printf "%s: set either value or existingSecret" $name) }}
{{- end }}
{{- end }}
{{- if and $v.tests.keysSecret $v.tests.tokensSecret }}
{{- fail "tests: set either keysSecret or tokensSecret" }}
{{- end }}
{{- end }}

{{/* A node must be given the time that it takes to leave, and to be noticed. */}}
{{- define "catbird.validateShutdown" -}}
{{- $v := .Values }}
{{- $s := $v.shutdown }}
{{- $r := $v.probes.readiness }}
{{- $needed := include "catbird.leaving" . | int }}
{{- if lt (int (include "catbird.gracePeriod" .)) $needed }}
{{- fail (printf "shutdown.terminationGracePeriodSeconds: %d is less than the %d that preStopSleepSeconds, drainDelaySeconds, drainTimeoutSeconds and marginSeconds add up to: nodes would be killed while they leave" (int $s.terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- $notices := mul (int $r.periodSeconds) (int $r.failureThreshold) | int }}
{{- $accepts := add (int $s.preStopSleepSeconds) (int $s.drainDelaySeconds) | int }}
{{- if and (include "catbird.several" .) (lt $accepts $notices) }}
{{- fail (printf "shutdown.drainDelaySeconds: a leaving node would stop accepting after %d s, before readiness probes have told of it (%d s): raise it, or lower probes.readiness.periodSeconds or failureThreshold" $accepts $notices) }}
{{- end }}
{{- end }}

{{/* How many there are, and how many may be away. */}}
{{- define "catbird.validateScale" -}}
{{- $v := .Values }}
{{- $a := $v.autoscaling }}
{{- if $a.enabled }}
{{- if lt (int $a.maxReplicas) (int $a.minReplicas) }}
{{- fail "autoscaling.maxReplicas: is less than autoscaling.minReplicas" }}
{{- end }}
{{- if not (or $a.cpuUtilization $a.activeActors $a.extraMetrics) }}
{{- fail "autoscaling: set cpuUtilization, activeActors or extraMetrics: there is nothing to go by" }}
{{- end }}
{{- if and $a.cpuUtilization (not (dig "requests" "cpu" (dig "limits" "cpu" "" $v.resources) $v.resources)) }}
{{- fail "autoscaling.cpuUtilization: is a share of resources.requests.cpu, which is not set: set it, or cpuUtilization to 0" }}
{{- end }}
{{- end }}
{{- $b := $v.podDisruptionBudget }}
{{- if $b.enabled }}
{{- $away := include "catbird.given" $b.maxUnavailable }}
{{- $stay := include "catbird.given" $b.minAvailable }}
{{- if eq (empty $away) (empty $stay) }}
{{- fail "podDisruptionBudget: set either maxUnavailable or minAvailable, and the other one to \"\"" }}
{{- end }}
{{- $nodes := include "catbird.replicas" . | int }}
{{- if $v.canary.enabled }}{{ $nodes = add $nodes (int $v.canary.replicas) | int }}{{ end }}
{{- $share := trimSuffix "%" $stay | default "0" | int }}
{{- if hasSuffix "%" $stay }}{{ $share = divf (mulf $share $nodes) 100 | ceil | int }}{{ end }}
{{- $gone := trimSuffix "%" $away | default "0" | int }}
{{- if hasSuffix "%" $away }}{{ $gone = divf (mulf $gone $nodes) 100 | ceil | int }}{{ end }}
{{- if and (include "catbird.several" .) (or (ge $gone $nodes) (regexMatch "^0+%?$" $stay)) }}
{{- fail (printf "podDisruptionBudget: all of the %d nodes could be evicted at once: lower maxUnavailable or raise minAvailable" $nodes) }}
{{- end }}
{{- if and (include "catbird.several" .) (or (regexMatch "^0+%?$" $away) (ge $share $nodes)) }}
{{- fail (printf "podDisruptionBudget: none of the %d nodes could ever be evicted, and no machine be drained: raise maxUnavailable or lower minAvailable" $nodes) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A value that is set, as a text; neither "" nor null is. */}}
{{- define "catbird.given" -}}
{{- if not (kindIs "invalid" .) }}{{ include "catbird.text" . }}{{ end }}
{{- end }}

{{- define "catbird.validateUpdates" -}}
{{- $v := .Values }}
{{- $partition := int $v.updateStrategy.partition }}
{{- $nodes := ternary $v.autoscaling.maxReplicas $v.replicas $v.autoscaling.enabled | int }}
{{- if and (eq $v.updateStrategy.type "OnDelete") (or (gt $partition 0) (gt (int $v.canary.partition) 0)) }}
{{- fail "updateStrategy.partition, canary.partition: mean nothing with OnDelete" }}
{{- end }}
{{- if gt $partition $nodes }}
{{- fail (printf "updateStrategy.partition: %d is beyond the last of %d nodes: with %d none is updated, with %d the last one" $partition $nodes $nodes (sub $nodes 1)) }}
{{- end }}
{{- if gt (int $v.canary.partition) (int $v.canary.replicas) }}
{{- fail (printf "canary.partition: %d is beyond the last of %d nodes" (int $v.canary.partition) (int $v.canary.replicas)) }}
{{- end }}
{{- $ttl := get $v.config "LEASE_TTL" }}
{{- if ne $ttl (get $v.canary.config "LEASE_TTL" | default $ttl) }}
{{- fail "canary.config.LEASE_TTL: is one for all nodes of a cluster: set config.LEASE_TTL" }}
{{- end }}
{{- end }}

{{/* What is added by hand must not undo what is computed, nor stand twice, nor name what is not there. */}}
{{- define "catbird.validateExtras" -}}
{{- $v := .Values }}
{{- $by := include "catbird.settledBy" . | fromYaml }}
{{- range $v.extraEnv }}
{{- if hasKey $by .name }}
{{- fail (printf "extraEnv: %s is set by %s" .name (get $by .name)) }}
{{- end }}
{{- end }}
{{- range $argument := $v.extraArgs }}
{{- $flag := regexFind "^--[-a-z]+" $argument }}
{{- $name := trimPrefix "--" $flag | trimPrefix "no-" | upper | replace "-" "_" }}
{{- if and $flag (hasKey $by $name) }}
{{- fail (printf "extraArgs: %s is set by %s" $flag (get $by $name)) }}
{{- end }}
{{- end }}
{{- $embedded := $v.database.embedded.enabled }}
{{- include "catbird.once" (dict "of" (list "extraEnv") "key" "name" "values" $v) }}
{{- include "catbird.once" (dict "of" (list "extraVolumes") "key" "name" "own" (ternary (list "data" "tmp") list $embedded) "values" $v) }}
{{- include "catbird.once" (dict "of" (list "extraVolumeMounts") "key" "mountPath" "own" (ternary (list "/data" "/tmp") list $embedded) "values" $v) }}
{{- include "catbird.once" (dict "of" (list "initContainers" "sidecars") "key" "name" "own" (ternary (list "catbird" "migrate") (list "catbird") $v.migration.job.enabled) "values" $v) }}
{{- $volumes := ternary (list "data" "tmp") list $embedded }}
{{- range $v.extraVolumes }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range $v.extraVolumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "extraVolumeMounts: there is no volume %s: name it in extraVolumes" .name) }}
{{- end }}
{{- end }}
{{- $ports := include "catbird.ports" . | fromYamlArray }}
{{- range $container := concat $v.initContainers $v.sidecars }}
{{- range dig "ports" list $container }}
{{- $name := get . "name" }}
{{- range $ports }}
{{- if eq .name $name }}
{{- fail (printf "sidecars: %s has a port %s, which is the server's, and by which services and policies go" $container.name $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $v.topologySpreadConstraints }}
{{- if and (eq (get . "topologyKey") "kubernetes.io/hostname") (eq (get . "whenUnsatisfiable") $v.spread.host) }}
{{- fail "topologySpreadConstraints: there is one for kubernetes.io/hostname already: set spread.host to none" }}
{{- end }}
{{- if and (eq (get . "topologyKey") "topology.kubernetes.io/zone") (eq (get . "whenUnsatisfiable") $v.spread.zone) }}
{{- fail "topologySpreadConstraints: there is one for topology.kubernetes.io/zone already: set spread.zone to none" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What stands in some lists stands there once, and is none of the chart's own: (dict "of" lists' names "key" "name" "own" list "values" .Values). */}}
{{- define "catbird.once" -}}
{{- $seen := .own | default list }}
{{- range $list := .of }}
{{- range index $.values $list }}
{{- if has (get . $.key) $seen }}
{{- fail (printf "%s: %s stands there twice, or is the chart's own" $list (get . $.key)) }}
{{- end }}
{{- $seen = append $seen (get . $.key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The settings that other values make, by the value. Those of the servers and the secrets are not among them: they may come from anywhere. */}}
{{- define "catbird.settledBy" -}}
DRAIN_DELAY: shutdown.drainDelaySeconds
DRAIN_TIMEOUT: shutdown.drainTimeoutSeconds
ENABLE_ACTOR_SYSTEM: actors.enabled
ACTOR_ROLLOUT_PERCENT: actors.rolloutPercent
SERVER_HOST: listenAddress
INTERNAL_HOST: listenAddress
GOSSIP_HOST: listenAddress
SERVER_PORT: the chart, and outside by service.port
INTERNAL_PORT: the chart
GOSSIP_PORT: the chart
GOSSIP_JOIN: gossipJoin
CLUSTER_LABEL: clusterLabel
NODE_NAME: the name of the pod
DATA_DIR: database.embedded
{{- end }}

{{- define "catbird.validateResources" -}}
{{- $requests := dig "requests" dict .Values.resources | default dict }}
{{- $limits := dig "limits" dict .Values.resources | default dict }}
{{- with get $limits "memory" }}
{{- if lt (include "catbird.mebibytes" (list "resources.limits.memory" .) | int64) 32 }}
{{- fail (printf "resources.limits.memory: %v is less than a node starts with: write it like 1Gi or 512Mi" .) }}
{{- end }}
{{- end }}
{{- range $kind, $parse := dict "cpu" "catbird.millicores" "memory" "catbird.mebibytes" }}
{{- $ask := get $requests $kind }}
{{- $limit := get $limits $kind }}
{{- if and $ask $limit }}
{{- $a := include $parse (list (printf "resources.requests.%s" $kind) $ask) | int64 }}
{{- if gt $a (include $parse (list (printf "resources.limits.%s" $kind) $limit) | int64) }}
{{- fail (printf "resources.requests.%s: %v is above the limit of %v" $kind $ask $limit) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "catbird.validateService" -}}
{{- $s := .Values.service }}
{{- if eq $s.type "ClusterIP" }}
{{- if gt (int $s.nodePort) 0 }}
{{- fail "service.nodePort: belongs to service.type NodePort or LoadBalancer" }}
{{- end }}
{{- if $s.externalTrafficPolicy }}
{{- fail "service.externalTrafficPolicy: belongs to service.type NodePort or LoadBalancer" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "catbird.validateMonitoring" -}}
{{- $v := .Values }}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled }}
{{- fail "serviceMonitor, podMonitor: enable one of them: both would count every node twice" }}
{{- end }}
{{- range $name := list "prometheusRule:files/rules.yaml" "dashboard:files/dashboard.json" }}
{{- $part := splitList ":" $name }}
{{- if and (index $v (index $part 0)).enabled (not ($.Files.Get (index $part 1))) }}
{{- fail (printf "%s.enabled: this copy of the chart has no %s" (index $part 0) (index $part 1)) }}
{{- end }}
{{- end }}
{{- end }}
