{{- define "rqueue.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The labels that select; dict of `root` and `component`. */}}
{{- define "rqueue.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "rqueue.labels" -}}
{{ include "rqueue.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image's reference; dict of `image` and `tag`, the tag where it says none. */}}
{{- define "rqueue.image" -}}
{{- with .image.registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .tag }}{{ end -}}
{{- end -}}

{{- define "rqueue.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "rqueue.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* Not empty where the built-in Valkey is wanted. */}}
{{- define "rqueue.builtin" -}}
{{- if not (or .Values.redis.url .Values.redis.urlSecret.name) }}true{{ end -}}
{{- end -}}

{{/* The ports that redis.url names, as JSON; of Sentinel, those of the servers that it leads to, too. */}}
{{- define "rqueue.redisPorts" -}}
{{- $ports := list -}}
{{- $sentinel := contains "+sentinel:" .Values.redis.url -}}
{{- with .Values.redis.url -}}
{{- range regexReplaceAll "^[^/]*//([^/?#]*).*$" . "${1}" | splitList "," -}}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default (ternary "26379" "6379" $sentinel) | int) -}}
{{- end -}}
{{- if $sentinel -}}
{{- $ports = append $ports 6379 -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{- define "rqueue.valkeySecret" -}}
{{- .Values.valkey.existingSecret | default (printf "%s-valkey" (include "rqueue.fullname" .)) -}}
{{- end -}}

{{- define "rqueue.tokensSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-tokens" (include "rqueue.fullname" .)) -}}
{{- end -}}

{{- define "rqueue.scheme" -}}
{{- ternary "https" "http" (not (empty .Values.tls.secretName)) -}}
{{- end -}}

{{- define "rqueue.host" -}}
{{ include "rqueue.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "rqueue.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . | int64 }}
runAsGroup: {{ . | int64 }}
fsGroup: {{ . | int64 }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "rqueue.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a pod goes; the same for all. */}}
{{- define "rqueue.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
