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
