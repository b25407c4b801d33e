{{/*
Labels of an object of the chart. Argument: (list $ "component"). Not used for the workflow templates, which are verbatim.
*/}}
{{- define "mm1.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{ include "mm1.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mm1
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{/*
Labels that do not change during a release's lifetime. Argument: (list $ "component").
*/}}
{{- define "mm1.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: mm1
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/*
Text of a value: whole numbers from a file are floats to Helm, which writes 1000000 as 1e+06. Argument: text, number or boolean.
*/}}
{{- define "mm1.text" -}}
{{- ternary (int64 .) . (kindIs "float64" .) | toString -}}
{{- end }}

{{/*
Text of a number of any kind, without an exponent if it is whole. Argument: the number.
*/}}
{{- define "mm1.number" -}}
{{- ternary (int64 .) . (eq (float64 (int64 .)) (float64 .)) | toString -}}
{{- end }}

{{/*
Address of the store: the value, or that of the workflow templates. Argument: the root.
*/}}
{{- define "mm1.store" -}}
{{- .Values.store.uri | default (include "mm1.facts" . | fromJson).store -}}
{{- end }}

{{/*
Bucket of the store. Argument: the root.
*/}}
{{- define "mm1.bucket" -}}
{{- include "mm1.store" . | trimPrefix "s3://" | splitList "/" | first -}}
{{- end }}

{{/*
Host and port of the trial's S3 server. Argument: the root.
*/}}
{{- define "mm1.trialAddress" -}}
{{- printf "mm1-trial-store.%s.svc:%d" .Release.Namespace (int .Values.trial.port) -}}
{{- end }}

{{/*
Peers and ports of a rule. Argument: (dict "peers" list "direction" "to|from" "ports" list of numbers).
*/}}
{{- define "mm1.rule" -}}
- {{ if .peers }}{{ .direction }}:
    {{- toYaml .peers | nindent 4 }}
  {{ end }}ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}

{{/*
The security context of a container under Pod Security `restricted`.
*/}}
{{- define "mm1.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end }}
