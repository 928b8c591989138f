{{/* What the schema can not say: values that are right alone and wrong together. Each message says what to do. */}}
{{- define "catbird.validate" -}}
{{- $v := .Values }}
{{- $s := $v.shutdown }}
{{- $r := $v.probes.readiness }}
{{- $several := include "catbird.several" . }}
{{- if and $v.database.embedded.enabled (or $several $v.redis.enabled) }}
{{- fail "database.embedded: the embedded database belongs to one node: set replicas to 1, redis.enabled, canary.enabled and autoscaling.enabled to false, or use PostgreSQL" }}
{{- end }}
{{- if and $several (not $v.redis.enabled) }}
{{- fail "redis.enabled: several nodes need Redis: enable it, or set replicas to 1 and canary.enabled and autoscaling.enabled to false" }}
{{- end }}
{{- if not (or $v.database.embedded.enabled $v.database.url $v.database.existingSecret) }}
{{- fail "database: set database.existingSecret, database.url or database.embedded.enabled" }}
{{- end }}
{{- if and $v.redis.enabled (not $v.redis.url) (not $v.redis.existingSecret) }}
{{- fail "redis: set redis.existingSecret or redis.url, or redis.enabled to false" }}
{{- end }}
{{- range $name := list "clusterSecret" "gossipKey" "jwtSecret" }}
{{- $secret := index $v $name }}
{{- if and $secret.value $secret.existingSecret }}
{{- fail (printf "%s: set either value or existingSecret" $name) }}
{{- end }}
{{- end }}
{{- $needed := add (int $s.preStopSleepSeconds) (int $s.drainDelaySeconds) (int $s.drainTimeoutSeconds) (int $s.marginSeconds) | int }}
{{- if lt (int (include "catbird.gracePeriod" .)) $needed }}
{{- fail (printf "shutdown.terminationGracePeriodSeconds: %d is less than the %d that preStopSleepSeconds, drainDelaySeconds, drainTimeoutSeconds and marginSeconds add up to: nodes would be killed while they leave" (int $s.terminationGracePeriodSeconds) $needed) }}
{{- end }}
{{- $notices := mul (int $r.periodSeconds) (int $r.failureThreshold) | int }}
{{- $accepts := add (int $s.preStopSleepSeconds) (int $s.drainDelaySeconds) | int }}
{{- if and $several (lt $accepts $notices) }}
{{- fail (printf "shutdown.drainDelaySeconds: a leaving node would stop accepting after %d s, before readiness probes have told of it (%d s): raise it, or lower probes.readiness.periodSeconds or failureThreshold" $accepts $notices) }}
{{- end }}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}
{{- fail "autoscaling.maxReplicas: is less than autoscaling.minReplicas" }}
{{- end }}
{{- if and $v.autoscaling.enabled (not (or $v.autoscaling.cpuUtilization $v.autoscaling.activeActors $v.autoscaling.extraMetrics)) }}
{{- fail "autoscaling: set cpuUtilization, activeActors or extraMetrics: there is nothing to go by" }}
{{- end }}
{{- if and $v.podDisruptionBudget.enabled (eq (empty (toString $v.podDisruptionBudget.maxUnavailable)) (empty (toString $v.podDisruptionBudget.minAvailable))) }}
{{- fail "podDisruptionBudget: set either maxUnavailable or minAvailable, and the other one to \"\"" }}
{{- end }}
{{- if and $v.serviceMonitor.enabled $v.podMonitor.enabled }}
{{- fail "serviceMonitor, podMonitor: enable one of them: both would count every node twice" }}
{{- end }}
{{- if and $v.migration.job.enabled $v.database.embedded.enabled }}
{{- fail "migration.job.enabled: the embedded database lies on the node's own volume and is migrated there" }}
{{- end }}
{{- if and (eq $v.updateStrategy.type "OnDelete") (gt (int $v.updateStrategy.partition) 0) }}
{{- fail "updateStrategy.partition: means nothing with OnDelete" }}
{{- end }}
{{- range $name := list "prometheusRule:files/rules.yaml" "dashboard:files/dashboard.json" }}
{{- $part := splitList ":" $name }}
{{- if and (index $v (index $part 0)).enabled (not ($.Files.Get (index $part 1))) }}
{{- fail (printf "%s.enabled: this copy of the chart has no %s" (index $part 0) (index $part 1)) }}
{{- end }}
{{- end }}
{{- end }}
