{{/* A probe by HTTP; dict of `root` and `path`. */}}
{{- define "rqueue.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ include "rqueue.scheme" .root | upper }}
{{- end -}}

{{/* One key of a Secret as a file; dict of `secret`, `key` and `path`. */}}
{{- define "rqueue.file" -}}
- secret:
    name: {{ .secret }}
    items:
      - key: {{ .key }}
        path: {{ .path }}
{{ end -}}

{{/* The files in /etc/rqueue/redis. */}}
{{- define "rqueue.redisFiles" -}}
{{- if include "rqueue.builtin" . -}}
{{ include "rqueue.file" (dict "secret" (include "rqueue.valkeySecret" .) "key" "password" "path" "password") }}
{{- else -}}
{{- with .Values.redis -}}
{{- if .urlSecret.name -}}
{{ include "rqueue.file" (dict "secret" .urlSecret.name "key" .urlSecret.key "path" "url") }}
{{- end -}}
{{- if .passwordSecret.name -}}
{{ include "rqueue.file" (dict "secret" .passwordSecret.name "key" .passwordSecret.key "path" "password") }}
{{- end -}}
{{- if .tls.secretName -}}
{{ include "rqueue.file" (dict "secret" .tls.secretName "key" "ca.crt" "path" "ca.crt") }}
{{- if .tls.clientCertificate -}}
{{ include "rqueue.file" (dict "secret" .tls.secretName "key" "tls.crt" "path" "tls.crt") }}
{{- include "rqueue.file" (dict "secret" .tls.secretName "key" "tls.key" "path" "tls.key") }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The files in /etc/rqueue/callbacks. */}}
{{- define "rqueue.callbackFiles" -}}
{{- with .Values.callbacks -}}
{{- if .signingSecret.name -}}
{{ include "rqueue.file" (dict "secret" .signingSecret.name "key" .signingSecret.key "path" "secrets") }}
{{- end -}}
{{- if .caSecret.name -}}
{{ include "rqueue.file" (dict "secret" .caSecret.name "key" .caSecret.key "path" "ca.crt") }}
{{- end -}}
{{- end -}}
{{- end -}}
