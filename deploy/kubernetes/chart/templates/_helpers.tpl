{{- define "healthd.name" -}}
{{- if contains "healthd" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-healthd{{ end }}
{{- end }}

{{- define "healthd.selector" -}}
app.kubernetes.io/name: healthd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "healthd.labels" -}}
{{ include "healthd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "healthd.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}
