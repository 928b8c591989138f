{{/* The metadata of a test's pod: (dict "root" $ "name" "…"). */}}
{{- define "catbird.testMetadata" -}}
{{- $v := .root.Values }}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" }}
{{- include "catbird.metadata" (dict "root" .root "name" (printf "%s-test-%s" (include "catbird.fullname" .root) .name) "component" "test"
  "labels" $v.tests.podLabels "annotations" (mergeOverwrite (dict) $v.tests.podAnnotations $hook)) }}
{{- end }}

{{/* What the containers of all tests have in common. */}}
{{- define "catbird.testContainer" -}}
resources:
  requests:
    cpu: 50m
    memory: 32Mi
  limits:
    memory: 128Mi
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}
