{{/* What everything is called. A release called sse-sunset has the names of the kustomize overlays. */}}
{{- define "sse-sunset.name" -}}
{{- if contains "sse-sunset" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-sse-sunset" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* By what a part is selected: (list . "proxy"). */}}
{{- define "sse-sunset.selector" -}}
app.kubernetes.io/name: sse-sunset
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The labels of what belongs to no part. */}}
{{- define "sse-sunset.labels" -}}
app.kubernetes.io/name: sse-sunset
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The labels of a part: (list . "proxy"). */}}
{{- define "sse-sunset.partLabels" -}}
{{ include "sse-sunset.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "sse-sunset.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What no pod needs is not given to it. */}}
{{- define "sse-sunset.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sse-sunset.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What is small and soon over. */}}
{{- define "sse-sunset.jobResources" -}}
requests:
  cpu: 10m
  memory: 32Mi
limits:
  memory: 128Mi
{{- end -}}

{{/* Where Redis is; nothing if a Secret says it. */}}
{{- define "sse-sunset.fleetUrl" -}}
{{- if .Values.fleet.url -}}
{{ .Values.fleet.url }}
{{- else if .Values.fleet.redis.enabled -}}
redis://{{ include "sse-sunset.name" . }}-redis:6379
{{- end -}}
{{- end -}}

{{/* The options as environment variables. */}}
{{- define "sse-sunset.config" -}}
{{- range $name, $value := .Values.config }}
{{ printf "SSE_SUNSET_%s" ($name | upper | replace "-" "_") }}: {{ if kindIs "slice" $value }}{{ join "," $value | quote }}{{ else if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ $value | toJson | quote }}{{ end }}
{{- end }}
{{- if .Values.fleet.enabled }}
{{- with include "sse-sunset.fleetUrl" . }}
SSE_SUNSET_FLEET: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}
