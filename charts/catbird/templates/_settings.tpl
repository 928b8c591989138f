{{/* What the ports are inside a pod. Nothing outside depends on them. */}}
{{- define "catbird.ports" -}}
- name: http
  containerPort: 8080
  protocol: TCP
- name: internal
  containerPort: 8081
  protocol: TCP
- name: gossip-tcp
  containerPort: 7946
  protocol: TCP
- name: gossip-udp
  containerPort: 7946
  protocol: UDP
{{- end }}

{{/* The settings of one track's nodes that are no secrets: (dict "root" $ "config" …). */}}
{{- define "catbird.settings" -}}
{{- $v := .root.Values }}
{{- $own := dict
  "SERVER_HOST" $v.listenAddress
  "SERVER_PORT" "8080"
  "INTERNAL_PORT" "8081"
  "DRAIN_DELAY" (printf "%ds" (int $v.shutdown.drainDelaySeconds))
  "DRAIN_TIMEOUT" (printf "%ds" (int $v.shutdown.drainTimeoutSeconds))
}}
{{- if $v.redis.enabled }}
{{- $join := prepend $v.gossipJoin (printf "%s-nodes:7946" (include "catbird.fullname" .root)) }}
{{- $_ := set $own "GOSSIP_HOST" $v.listenAddress }}
{{- $_ := set $own "GOSSIP_PORT" "7946" }}
{{- $_ := set $own "GOSSIP_JOIN" (join "," $join) }}
{{- $_ := set $own "CLUSTER_LABEL" (default (include "catbird.fullname" .root) $v.clusterLabel) }}
{{- end }}
{{- if $v.database.embedded.enabled }}{{ $_ := set $own "DATA_DIR" "/data" }}{{ end }}
{{- range $name, $value := mergeOverwrite (dict) $v.config (.config | default dict) }}
{{- $_ := set $own $name (include "catbird.text" $value) }}
{{- end }}
{{- toYaml $own }}
{{- end }}

{{/* A value as a text. Numbers come as floating point, of which large ones would be written with an exponent. */}}
{{- define "catbird.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/*
The variables of a node's container: (dict "root" $ "actors" …). Each stands there
once, yours before the chart's: server-side apply, with which Helm 4 works, refuses
a list that names one twice.
*/}}
{{- define "catbird.env" -}}
{{- include "catbird.withYours" (dict "root" .root "own" (include "catbird.ownEnv" . | fromYamlArray)) }}
{{- end }}

{{/* (dict "root" $ "own" list): the list without what extraEnv has, and extraEnv. */}}
{{- define "catbird.withYours" -}}
{{- $env := list }}
{{- range .own }}
{{- if not (include "catbird.yours" (list $.root .name)) }}{{ $env = append $env . }}{{ end }}
{{- end }}
{{- concat $env .root.Values.extraEnv | toYaml }}
{{- end }}

{{/* "true" where extraEnv has the variable: (list $ "name"). */}}
{{- define "catbird.yours" -}}
{{- $name := index . 1 }}
{{- range (index . 0).Values.extraEnv }}{{ if eq .name $name }}true{{ end }}{{ end }}
{{- end }}

{{/*
The flag is here and not in the ConfigMap, which is one for all pods of a set: a
pod that a partition holds back keeps the flag of its own revision, however often
it starts.
*/}}
{{- define "catbird.ownEnv" -}}
- name: ENABLE_ACTOR_SYSTEM
  value: {{ toString .actors.enabled | quote }}
- name: ACTOR_ROLLOUT_PERCENT
  value: {{ toString .actors.rolloutPercent | quote }}
{{- with .root }}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- if .Values.redis.enabled }}
- name: GOSSIP_ADVERTISE
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
{{- end }}
{{- if not .Values.database.embedded.enabled }}
{{- include "catbird.secretEnv" (dict "root" . "name" "DATABASE_URL" "from" .Values.database) }}
{{- end }}
{{- if .Values.redis.enabled }}
{{- include "catbird.secretEnv" (dict "root" . "name" "REDIS_URL" "from" .Values.redis) }}
{{- if .Values.gossipKey.enabled }}
{{- include "catbird.secretEnv" (dict "root" . "name" "GOSSIP_KEY" "from" .Values.gossipKey) }}
{{- end }}
{{- end }}
{{- include "catbird.secretEnv" (dict "root" . "name" "CLUSTER_SECRET" "from" .Values.clusterSecret) }}
{{- include "catbird.secretEnv" (dict "root" . "name" "JWT_SECRET" "from" .Values.jwtSecret) }}
{{- include "catbird.runtimeEnv" . }}
{{- end }}
{{- end }}

{{/* What catbirdctl needs to ask the nodes: where they are, from the first one on, and their secret, which may be among yours. */}}
{{- define "catbird.operatorEnv" -}}
{{- $nodes := list }}
{{- range until (int (include "catbird.replicas" .)) }}
{{- $nodes = append $nodes (printf "http://%s-%d.%s-nodes:8081" (include "catbird.fullname" $) . (include "catbird.fullname" $)) }}
{{- end }}
- name: CATBIRD_NODE
  value: {{ join "," $nodes | quote }}
{{- $secret := include "catbird.secretEnv" (dict "root" . "name" "CLUSTER_SECRET" "from" .Values.clusterSecret) }}
{{- range .Values.extraEnv }}
{{- if eq .name "CLUSTER_SECRET" }}{{ $secret = list . | toYaml | printf "\n%s" }}{{ end }}
{{- end }}
{{- $secret }}
{{- end }}

{{/* Go's own settings. It reads the limit of the CPU by itself, but not that of the memory; both are written down here, to be seen. */}}
{{- define "catbird.runtimeEnv" -}}
{{- $limits := dig "limits" dict .Values.resources }}
{{- $percent := int .Values.runtime.memoryLimitPercent }}
{{- if and (hasKey $limits "memory") (gt $percent 0) }}
- name: GOMEMLIMIT
  value: {{ printf "%dMiB" (div (mul (include "catbird.mebibytes" (list "resources.limits.memory" $limits.memory) | int64) $percent) 100) | quote }}
{{- end }}
{{- if gt (int .Values.runtime.maxProcs) 0 }}
- name: GOMAXPROCS
  value: {{ int .Values.runtime.maxProcs | quote }}
{{- else if hasKey $limits "cpu" }}
- name: GOMAXPROCS
  value: {{ divf (include "catbird.millicores" (list "resources.limits.cpu" $limits.cpu) | int64) 1000 | ceil | int | max 1 | quote }}
{{- end }}
{{- end }}

{{/* A quantity of memory in MiB, rounded down: (list "the value's name" quantity). */}}
{{- define "catbird.mebibytes" -}}
{{- $units := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 }}
{{- $text := include "catbird.text" (index . 1) }}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?([kMGT]|[KMGT]i)?$" $text) }}
{{- fail (printf "%s: %q is not understood here: write it like 1Gi, 512Mi or 1.5G" (index . 0) $text) }}
{{- end }}
{{- $unit := regexFind "[a-zA-Z]*$" $text }}
{{- divf (mulf (trimSuffix $unit $text | float64) (index $units $unit)) 1048576.0 | floor | int64 }}
{{- end }}

{{/* A quantity of CPU in thousandths of a core: (list "the value's name" quantity). */}}
{{- define "catbird.millicores" -}}
{{- $text := include "catbird.text" (index . 1) }}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?m?$" $text) }}
{{- fail (printf "%s: %q is not understood here: write it like 2, 1.5 or 1500m" (index . 0) $text) }}
{{- end }}
{{- $cores := trimSuffix "m" $text | float64 }}
{{- ternary $cores (mulf $cores 1000) (hasSuffix "m" $text) | ceil | int64 }}
{{- end }}

{{/* A duration such as 1m30s in seconds. */}}
{{- define "catbird.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 }}
{{- $sum := 0.0 }}
{{- range regexFindAll "[0-9.]+[a-z]+" . -1 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- $sum = addf $sum (mulf (trimSuffix $unit . | float64) (get $units $unit)) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* Seconds from the start of preStop to the end of an orderly stop. */}}
{{- define "catbird.leaving" -}}
{{- $s := .Values.shutdown }}
{{- add (int $s.preStopSleepSeconds) (int $s.drainDelaySeconds) (int $s.drainTimeoutSeconds) (int $s.marginSeconds) }}
{{- end }}

{{/* Seconds from the start of preStop to the kill. */}}
{{- define "catbird.gracePeriod" -}}
{{- $own := int .Values.shutdown.terminationGracePeriodSeconds }}
{{- ternary (include "catbird.leaving" .) (toString $own) (eq 0 $own) }}
{{- end }}
