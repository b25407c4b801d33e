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
The profile's workflow templates as a JSON object: name -> parsed file. Fails if the chart does not contain the profile.
*/}}
{{- define "mm1.workflowTemplates" -}}
{{- $templates := dict -}}
{{- range $path, $_ := .Files.Glob (printf "files/%s/*.yaml" .Values.profile) -}}
  {{- $document := $.Files.Get $path | fromYaml -}}
  {{- $_ := set $templates $document.metadata.name $document -}}
{{- end -}}
{{- if not $templates -}}
  {{- $profiles := list -}}
  {{- range $path, $_ := .Files.Glob "files/*/*.yaml" -}}
    {{- $profiles = append $profiles (base (dir $path)) -}}
  {{- end -}}
  {{- fail (printf "profile %q: the chart has no workflow templates for it, only for: %s. Generate them with: mm1 compile --engine template --profile <name or file>" .Values.profile (uniq $profiles | join ", " | default "none")) -}}
{{- end -}}
{{- toJson $templates -}}
{{- end }}

{{/*
The image of the step `deploy`, which can also serve. Argument: the root.
*/}}
{{- define "mm1.servingImage" -}}
{{- $image := .Values.serving.image -}}
{{- if not $image -}}
  {{- range $document := include "mm1.workflowTemplates" . | fromJson -}}
    {{- range $template := $document.spec.templates -}}
      {{- if eq (dig "metadata" "labels" "mm1.dev/step" "" $template) "deploy" -}}
        {{- $image = $template.container.image -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- required "serving.image: required, because no workflow template of the profile has a step `deploy`" $image -}}
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
