{{/* The spec of a pod that runs files/hook.py; dict of `root` and `what`, its first word. */}}
{{- define "rqueue.hookPod" -}}
{{- $values := .root.Values -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "rqueue.podSecurityContext" .root | nindent 2 }}
{{- include "rqueue.placement" .root }}
containers:
  - name: {{ .what }}
    image: {{ include "rqueue.image" (dict "image" $values.image "tag" .root.Chart.AppVersion) }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    command: [python, -c]
    args:
      - |
        {{- .root.Files.Get "files/hook.py" | nindent 8 }}
      - {{ .what }}
      - {{ include "rqueue.scheme" .root }}://{{ include "rqueue.host" .root }}:{{ $values.service.port }}
      - /etc/rqueue/hook
    securityContext:
      {{- include "rqueue.containerSecurityContext" .root | nindent 6 }}
    resources:
      requests:
        cpu: 10m
        memory: 32Mi
      limits:
        memory: 128Mi
    volumeMounts:
      - name: hook
        mountPath: /etc/rqueue/hook
        readOnly: true
volumes:
  - name: hook
    projected:
      defaultMode: 0440
      sources:
        {{- include "rqueue.file" (dict "secret" (include "rqueue.tokensSecret" .root) "key" "admin-token" "path" "admin-token") | nindent 8 }}
        {{- if and $values.tls.secretName $values.tls.caKey }}
        {{- include "rqueue.file" (dict "secret" $values.tls.secretName "key" $values.tls.caKey "path" "ca.crt") | nindent 8 }}
        {{- end }}
        {{- if eq .what "apply" }}
        - configMap:
            name: {{ include "rqueue.fullname" .root }}-queues
        {{- end }}
{{- end -}}
