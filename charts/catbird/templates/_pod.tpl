{{/*
A set of nodes: (dict "root" $ "name" "…" "track" "stable|canary" "replicas" n or nil
"partition" n "image" "…" "settings" "name of its ConfigMap" "sum" "checksum of that"
"actors" its flags).
*/}}
{{- define "catbird.statefulset" -}}
{{- $root := .root }}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "catbird.metadata" (dict "root" $root "name" .name "component" "node" "labels" (dict "catbird.blue/track" .track)) | nindent 2 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  serviceName: {{ include "catbird.fullname" $root }}-nodes
  podManagementPolicy: {{ $root.Values.podManagementPolicy }}
  minReadySeconds: {{ $root.Values.minReadySeconds }}
  revisionHistoryLimit: {{ $root.Values.revisionHistoryLimit }}
  updateStrategy:
    type: {{ $root.Values.updateStrategy.type }}
    {{- if eq $root.Values.updateStrategy.type "RollingUpdate" }}
    rollingUpdate:
      partition: {{ .partition }}
    {{- end }}
  selector:
    matchLabels:
      {{- include "catbird.selectorLabels" $root | nindent 6 }}
      catbird.blue/track: {{ .track }}
  template:
    metadata:
      labels:
        {{- include "catbird.podLabels" (dict "root" $root "component" "node" "extra" (mergeOverwrite (dict) $root.Values.podLabels (dict "catbird.blue/track" .track))) | nindent 8 }}
      annotations:
        {{- $own := dict "checksum/settings" .sum }}
        {{- with include "catbird.secretData" $root | fromYaml }}
        {{- $_ := set $own "checksum/secret" (toYaml . | sha256sum) }}
        {{- end }}
        {{- $first := dict "kubectl.kubernetes.io/default-container" "catbird" }}
        {{- mergeOverwrite $first $root.Values.commonAnnotations $root.Values.podAnnotations $own | toYaml | nindent 8 }}
    spec:
      {{- include "catbird.podSpec" . | nindent 6 }}
  {{- if $root.Values.database.embedded.enabled }}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- include "catbird.selectorLabels" $root | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $root.Values.database.embedded.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $root.Values.database.embedded.size }}
  {{- end }}
{{- end }}

{{- define "catbird.podSpec" -}}
{{- $root := .root }}
{{- $v := .root.Values }}
{{- include "catbird.podBasics" (dict "root" $root "serviceAccount" (include "catbird.serviceAccountName" $root)) }}
terminationGracePeriodSeconds: {{ include "catbird.gracePeriod" $root }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- else }}
{{- include "catbird.antiAffinity" $root }}
{{- end }}
{{- include "catbird.spread" $root }}
{{- with $v.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: catbird
    image: {{ .image }}
    imagePullPolicy: {{ $v.image.pullPolicy }}
    args:
      - serve
      {{- range $v.extraArgs }}
      - {{ . | quote }}
      {{- end }}
    envFrom:
      {{- with $v.extraEnvFrom }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      - configMapRef:
          name: {{ .settings }}
    env:
      {{- include "catbird.env" (dict "root" $root "actors" .actors) | nindent 6 }}
    ports:
      {{- include "catbird.ports" . | nindent 6 }}
    {{- if $v.probes.enabled }}
    {{- range $name, $probe := omit $v.probes "enabled" }}
    {{ $name }}Probe:
      httpGet:
        path: {{ $probe.path }}
        port: http
      {{- omit $probe "path" | toYaml | nindent 6 }}
    {{- end }}
    {{- end }}
    {{- if gt (int $v.shutdown.preStopSleepSeconds) 0 }}
    lifecycle:
      preStop:
        sleep:
          seconds: {{ $v.shutdown.preStopSleepSeconds }}
    {{- end }}
    {{- with $v.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- toYaml $v.securityContext | nindent 6 }}
    {{- if or $v.extraVolumeMounts $v.database.embedded.enabled }}
    volumeMounts:
      {{- if $v.database.embedded.enabled }}
      - name: data
        mountPath: /data
      - name: tmp
        mountPath: /tmp
      {{- end }}
      {{- with $v.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
  {{- with $v.sidecars }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or $v.extraVolumes $v.database.embedded.enabled }}
volumes:
  {{- if $v.database.embedded.enabled }}
  - name: tmp # where SQLite sorts what is too large for its memory
    emptyDir:
      sizeLimit: 256Mi
  {{- end }}
  {{- with $v.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Nodes of both tracks are one cluster, and are kept apart and spread together. */}}
{{- define "catbird.antiAffinity" -}}
{{- if eq .Values.podAntiAffinity "hard" }}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "catbird.selectorLabels" . | nindent 12 }}
{{- else if eq .Values.podAntiAffinity "soft" }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "catbird.selectorLabels" . | nindent 14 }}
{{- end }}
{{- end }}

{{- define "catbird.spread" -}}
{{- $root := . }}
{{- $constraints := list }}
{{- range $key, $when := dict "topology.kubernetes.io/zone" .Values.spread.zone "kubernetes.io/hostname" .Values.spread.host }}
{{- if ne $when "none" }}
{{- $selector := dict "matchLabels" (include "catbird.selectorLabels" $root | fromYaml) }}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" $when "labelSelector" $selector) }}
{{- end }}
{{- end }}
{{- with concat $constraints .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
