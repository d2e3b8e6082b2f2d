{{/* What a schema cannot say: values of which one is nothing without another, or against it. */}}
{{- define "rqueue.refused" -}}
{{- $redis := .Values.redis -}}
{{- if and $redis.url $redis.urlSecret.name -}}
{{- fail "redis.url and redis.urlSecret are both set; expected one of them" -}}
{{- end -}}
{{- if and (include "rqueue.builtin" .) (or $redis.username $redis.passwordSecret.name $redis.tls.secretName) -}}
{{- fail "redis.username, redis.passwordSecret and redis.tls are for a Redis of your own; set redis.url or redis.urlSecret" -}}
{{- end -}}
{{- if and $redis.tls.secretName $redis.url (not (hasPrefix "rediss" $redis.url)) -}}
{{- fail "redis.tls.secretName is set, and redis.url does not begin with rediss" -}}
{{- end -}}
{{- if and $redis.tls.clientCertificate (not $redis.tls.secretName) -}}
{{- fail "redis.tls.clientCertificate is set without redis.tls.secretName" -}}
{{- end -}}
{{- if and .Values.auth.existingSecret .Values.auth.tokens -}}
{{- fail "auth.tokens go into the Secret that the chart makes; with auth.existingSecret put them into its tokens.yaml" -}}
{{- end -}}
{{- range .Values.auth.tokens -}}
{{- if has .name (list "admin" "metrics") -}}
{{- fail (printf "auth.tokens: %s is the name of a token that the chart makes" .name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty; expected a host name" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs is empty; expected a Gateway" -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail "autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}
