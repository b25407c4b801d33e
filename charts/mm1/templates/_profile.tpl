{{/*
Name of the profile of the workflow templates. Argument: the root.
*/}}
{{- define "mm1.profile" -}}
{{- .Values.profile | default (ternary "smoke" "default" .Values.trial.enabled) -}}
{{- end }}

{{/*
The profile's workflow templates as a JSON object: name -> parsed file. Fails if the chart does not contain the profile.
*/}}
{{- define "mm1.workflowTemplates" -}}
{{- $templates := dict -}}
{{- $profile := include "mm1.profile" . -}}
{{- range $path, $_ := .Files.Glob (printf "files/%s/*.yaml" $profile) -}}
  {{- $document := $.Files.Get $path | fromYaml -}}
  {{- $_ := set $templates $document.metadata.name $document -}}
{{- end -}}
{{- if not $templates -}}
  {{- $profiles := list -}}
  {{- range $path, $_ := .Files.Glob "files/*/*.yaml" -}}
    {{- $profiles = append $profiles (base (dir $path)) -}}
  {{- end -}}
  {{- fail (printf "profile %q: the chart has no workflow templates for it, only for: %s. Generate them with: mm1 compile --engine template --profile <name or file>" $profile (uniq $profiles | join ", " | default "none")) -}}
{{- end -}}
{{- toJson $templates -}}
{{- end }}

{{/*
What the profile's workflow templates use, as a JSON object, so that the values can be checked against it:
  store: address of the store; secrets, accounts, queues: names; pools: those of training, with labels and taints;
  ports: of the supervisors' metrics; deploy: image of the step `deploy`.
*/}}
{{- define "mm1.facts" -}}
{{- $store := "" -}}{{- $deploy := "" -}}{{- $pools := dict -}}
{{- $secrets := list -}}{{- $accounts := list -}}{{- $queues := list -}}{{- $ports := list -}}
{{- range $name, $document := include "mm1.workflowTemplates" . | fromJson -}}
  {{- range dig "spec" "arguments" "parameters" list $document -}}
    {{- if eq .name "store" -}}{{- $store = default "" .value -}}{{- end -}}
  {{- end -}}
  {{- $accounts = append $accounts (dig "spec" "serviceAccountName" "" $document) -}}
  {{- range $template := dig "spec" "templates" list $document -}}
    {{- $accounts = append $accounts (dig "serviceAccountName" "" $template) -}}
    {{- $container := default dict $template.container -}}
    {{- if eq (dig "metadata" "labels" "mm1.dev/step" "" $template) "deploy" -}}{{- $deploy = $container.image -}}{{- end -}}
    {{- range default list $container.envFrom -}}
      {{- $secrets = append $secrets (dig "secretRef" "name" "" .) -}}
    {{- end -}}
    {{- range default list $container.ports -}}{{- $ports = append $ports (int .containerPort) -}}{{- end -}}
    {{- range default list $container.args -}}
      {{- if hasPrefix "--launcher=" (toString .) -}}
        {{- $launcher := trimPrefix "--launcher=" . | fromJson -}}
        {{- $accounts = append $accounts (default "mm1-rank" $launcher.account) -}}
        {{- $queues = append $queues (default "" $launcher.queue) -}}
        {{- $pools = merge $pools $launcher.pools -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $facts := dict "store" $store "deploy" $deploy "pools" $pools -}}
{{- $_ := merge $facts (dict "secrets" (compact (uniq $secrets)) "accounts" (compact (uniq $accounts)) "queues" (compact (uniq $queues)) "ports" (uniq $ports)) -}}
{{- toJson $facts -}}
{{- end }}

{{/*
The image of the step `deploy`, which can also serve. Argument: the root.
*/}}
{{- define "mm1.servingImage" -}}
{{- $image := .Values.serving.image | default (include "mm1.facts" . | fromJson).deploy -}}
{{- required "serving.image: required, because no workflow template of the profile has a step `deploy`" $image -}}
{{- end }}
