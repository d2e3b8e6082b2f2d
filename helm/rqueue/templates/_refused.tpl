{{/* What a schema cannot say: values of which one is nothing without another, or against it. */}}
{{- define "rqueue.refused" -}}
{{- $fullname := include "rqueue.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- fail (printf "%s can be no Service's name: letters, digits and dashes, a letter first; set fullnameOverride" $fullname) -}}
{{- end -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int .Values.callbacks.timeoutSeconds) -}}
{{- fail "terminationGracePeriodSeconds is less than callbacks.timeoutSeconds, which a call that is under way may take" -}}
{{- end -}}
{{- if and (or .Values.auth.kubernetes .Values.sources.kubernetes) (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "auth.kubernetes and sources.kubernetes give a ServiceAccount rights in the cluster, and the namespace's default one is everybody's: set serviceAccount.create or serviceAccount.name" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not (dig "requests" "cpu" "" .Values.resources)) -}}
{{- fail "autoscaling goes by the CPU request, and resources.requests.cpu is not set" -}}
{{- end -}}
{{- $redis := .Values.redis -}}
{{- if and $redis.url $redis.urlSecret.name -}}
{{- fail "redis.url and redis.urlSecret are both set; expected one of them" -}}
{{- end -}}
{{- if include "rqueue.builtin" . -}}
{{- if or $redis.username $redis.passwordSecret.name $redis.tls.secretName -}}
{{- fail "redis.username, redis.passwordSecret and redis.tls are for a Redis of your own; set redis.url or redis.urlSecret" -}}
{{- end -}}
{{- include "rqueue.fits" .Values.valkey -}}
{{- else if .Values.valkey.existingSecret -}}
{{- fail "valkey.existingSecret is for the built-in Valkey, and redis.url or redis.urlSecret names another; see redis.passwordSecret" -}}
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
{{- $seen := dict "name admin" true "name metrics" true -}}
{{- range $token := .Values.auth.tokens -}}
{{- range $field := list "name" "sha256" "service_account" -}}
{{- with get $token $field -}}
{{- $key := printf "%s %s" $field . -}}
{{- if hasKey $seen $key -}}
{{- fail (printf "auth.tokens: %s: its %s is there twice; the chart itself makes admin and metrics" $token.name $field) -}}
{{- end -}}
{{- $_ := set $seen $key true -}}
{{- end -}}
{{- end -}}
{{- if and $token.owners (ne $token.role "client") -}}
{{- fail (printf "auth.tokens: %s: only a client is bound to owners" $token.name) -}}
{{- end -}}
{{- if and $token.service_account (not $.Values.auth.kubernetes) -}}
{{- fail (printf "auth.tokens: %s: a service_account is nothing without auth.kubernetes" $token.name) -}}
{{- end -}}
{{- end -}}
{{- $names := dict -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $names .name -}}
{{- fail (printf "extraEnv: %s is there twice" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- $policy := .Values.networkPolicy -}}
{{- if and (include "rqueue.builtin" .) (or $policy.redisPorts $policy.redisTo) -}}
{{- fail "networkPolicy.redisPorts and redisTo are for a Redis of your own; set redis.url or redis.urlSecret" -}}
{{- end -}}
{{- if and $policy.enabled $policy.callbacksTo $redis.urlSecret.name (not $policy.redisPorts) -}}
{{- fail "networkPolicy.redisPorts is empty; with callbacksTo nothing else is open, and the chart cannot see the port in redis.urlSecret" -}}
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

{{/* Bytes as text, of an amount as Kubernetes or Valkey writes it; nothing where it cannot be read. */}}
{{- define "rqueue.bytes" -}}
{{- $written := ternary . (printf "%.0f" (float64 .)) (kindIs "string" .) -}}
{{- $unit := regexFind "[A-Za-z]*$" $written -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "m" 1e6 "G" 1e9 "g" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "kb" 1024 "Mi" 1048576 "mb" 1048576 "Gi" 1073741824 "gb" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- if and (hasKey $units $unit) (regexMatch "^[0-9]+([.][0-9]+)?[A-Za-z]*$" $written) -}}
{{- printf "%.0f" (mulf (float64 (trimSuffix $unit $written)) (float64 (get $units $unit))) -}}
{{- end -}}
{{- end -}}

{{/* Refuses a built-in Valkey that would be killed, or whose volume would be full, before its memory is. */}}
{{- define "rqueue.fits" -}}
{{- $most := include "rqueue.bytes" .maxMemory | float64 -}}
{{- $limits := (.resources | default dict).limits | default dict -}}
{{- with $limits.memory -}}
{{- with include "rqueue.bytes" . -}}
{{- if lt (float64 .) (mulf 2 $most) -}}
{{- fail "valkey.resources.limits.memory is less than twice valkey.maxMemory, which a rewrite of the append-only file may need" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with include "rqueue.bytes" .persistence.size -}}
{{- if lt (float64 .) (mulf 3 $most) -}}
{{- fail "valkey.persistence.size is less than three times valkey.maxMemory: the append-only file is rewritten beside the old one" -}}
{{- end -}}
{{- end -}}
{{- end -}}
