{{/* What the objects are called. */}}
{{- define "catbird.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Long enough names must be left for -nodes, -canary and a pod's ordinal: 63 in all, and a label of a StatefulSet's pod holds ten more. */}}
{{- define "catbird.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "catbird.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "catbird.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "catbird.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* By which the objects of one release are known. Selectors can not be changed later: nothing is ever added here. */}}
{{- define "catbird.instanceLabels" -}}
app.kubernetes.io/name: {{ include "catbird.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* By which the nodes' pods are known: neither the migration's nor the tests' have this component. */}}
{{- define "catbird.selectorLabels" -}}
{{ include "catbird.instanceLabels" . }}
app.kubernetes.io/component: node
{{- end }}

{{/* Labels of an object: (dict "root" $ "component" "…" "extra" .Values.…). */}}
{{- define "catbird.labels" -}}
{{- $own := include "catbird.instanceLabels" .root | fromYaml }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- $_ := set $own "app.kubernetes.io/version" (include "catbird.version" .root) }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $own "app.kubernetes.io/part-of" "catbird" }}
{{- with .component }}{{ $_ := set $own "app.kubernetes.io/component" . }}{{ end }}
{{- toYaml (mergeOverwrite (dict) .root.Values.commonLabels (.extra | default dict) $own) }}
{{- end }}

{{/* Labels of a pod: (dict "root" $ "component" "…" "extra" …). Nothing that a new version of the chart alone changes: it would replace the pods. */}}
{{- define "catbird.podLabels" -}}
{{- $own := include "catbird.instanceLabels" .root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/part-of" "catbird" }}
{{- $_ := set $own "app.kubernetes.io/component" .component }}
{{- toYaml (mergeOverwrite (dict) .root.Values.commonLabels (.extra | default dict) $own) }}
{{- end }}

{{/* A tag may hold characters that a label may not. */}}
{{- define "catbird.version" -}}
{{- default .Chart.AppVersion .Values.image.tag | replace "+" "_" | trunc 63 | trimAll "-_." }}
{{- end }}

{{/* The metadata of an object: (dict "root" $ "name" "…" "component" "…" "labels" … "annotations" …). */}}
{{- define "catbird.metadata" -}}
name: {{ .name }}
namespace: {{ include "catbird.namespace" .root }}
labels:
  {{- include "catbird.labels" (dict "root" .root "component" .component "extra" .labels) | nindent 2 }}
{{- with mergeOverwrite (dict) .root.Values.commonAnnotations (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The image: (dict "root" $ "tag" "…" "digest" "…"), where a tag or a digest wins over those of .Values.image. */}}
{{- define "catbird.image" -}}
{{- $image := .root.Values.image }}
{{- $digest := .digest | default (ternary "" $image.digest (not (empty .tag))) }}
{{- $tag := .tag | default $image.tag | default .root.Chart.AppVersion }}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}
{{- if $digest }}@{{ $digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "catbird.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "catbird.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Nodes at least, without the canary's. */}}
{{- define "catbird.replicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicas .Values.autoscaling.enabled | int }}
{{- end }}

{{/*
What the set is told of its replicas, as YAML. With the autoscaler that is nothing,
but for one case: as long as nobody else has set the number, the API server would
reset it to 1 when Helm stops setting it. Then it stays what it is.
*/}}
{{- define "catbird.setReplicas" -}}
{{- if not .Values.autoscaling.enabled }}
replicas: {{ .Values.replicas }}
{{- else }}
{{- $set := lookup "apps/v1" "StatefulSet" (include "catbird.namespace" .) (include "catbird.fullname" .) | default dict }}
{{- $others := false }}
{{- range dig "metadata" "managedFields" list $set }}
{{- if and (eq (get . "subresource" | toString) "scale") (hasKey (dig "fieldsV1" "f:spec" dict .) "f:replicas") }}{{ $others = true }}{{ end }}
{{- end }}
{{- if and $set (not $others) }}
replicas: {{ $set.spec.replicas }}
{{- end }}
{{- end }}
{{- end }}

{{/* "true" where there may be more than one node. */}}
{{- define "catbird.several" -}}
{{- if or (gt (int (include "catbird.replicas" .)) 1) .Values.canary.enabled (and .Values.autoscaling.enabled (gt (int .Values.autoscaling.maxReplicas) 1)) }}true{{ end }}
{{- end }}

{{/* Pods are pulled and placed alike, the nodes' and those that come and go. */}}
{{- define "catbird.podBasics" -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- range $key := list "nodeSelector" "tolerations" "dnsConfig" "hostAliases" }}
{{- with index $.root.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" }}
{{- with index $.root.Values $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- end }}
