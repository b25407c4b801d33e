{{/*
Fails for values that contradict each other, or the profile's workflow templates. A single value is checked by
values.schema.json. Argument: the root.
*/}}
{{- define "mm1.checks" -}}
{{- $facts := include "mm1.facts" . | fromJson -}}
{{- range list "mm1.checkStore" "mm1.checkAccounts" "mm1.checkQueue" "mm1.checkMonitoring" "mm1.checkServing" -}}
  {{- include . (list $ $facts (include "mm1.profile" $)) -}}
{{- end -}}
{{- end }}

{{- define "mm1.checkStore" -}}
{{- $root := index . 0 -}}{{- $facts := index . 1 -}}{{- $profile := index . 2 -}}
{{- $secret := $root.Values.store.secret -}}
{{- if and (not $secret) $root.Values.trial.enabled -}}
  {{- fail "store.secret: expected a name with trial.enabled, because the trial keeps its credentials there: set it to mm1-store" -}}
{{- end -}}
{{- if and (not $secret) $facts.secrets -}}
  {{- fail (printf "store.secret: expected %s, which the workflow templates of profile %s read, got an empty name: for a workload identity, compile a profile with environment_secret: \"\" and name it in `profile`" (first $facts.secrets) $profile) -}}
{{- end -}}
{{- if $root.Values.trial.enabled -}}
  {{- if not (has $secret $facts.secrets) -}}
    {{- fail (printf "store.secret: expected one of %s, which the workflow templates of profile %s read, got %q: the trial's credentials are kept there" (join ", " $facts.secrets | default "none") $profile $secret) -}}
  {{- end -}}
  {{- if not (hasPrefix "s3://" (include "mm1.store" $root)) -}}
    {{- fail "store.uri: expected s3://bucket/prefix with trial.enabled, because no workflow template has an address" -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "mm1.checkAccounts" -}}
{{- $accounts := (index . 0).Values.accounts -}}{{- $facts := index . 1 -}}{{- $profile := index . 2 -}}
{{- if $accounts.create -}}
  {{- $names := list -}}
  {{- range list "step" "supervisor" "rank" "serve" "rollout" -}}{{- $names = append $names (get $accounts .).name -}}{{- end -}}
  {{- if $accounts.executor.create -}}{{- $names = append $names $accounts.executor.name -}}{{- end -}}
  {{- if ne (len $names) (len (uniq $names)) -}}
    {{- fail (printf "accounts: expected a name of its own for each account, because their rights differ, got %s" (join ", " $names)) -}}
  {{- end -}}
  {{- range $facts.accounts -}}
    {{- if not (has . $names) -}}
      {{- fail (printf "accounts: the workflow templates of profile %s run under %s, got only the names %s: set accounts.<role>.name to the names of the profile's `accounts`" $profile . (join ", " $names)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "mm1.checkQueue" -}}
{{- $queue := (index . 0).Values.queue -}}{{- $facts := index . 1 -}}{{- $profile := index . 2 -}}
{{- if and $queue.clusterQueue $facts.queues (not (has $queue.name $facts.queues)) -}}
  {{- fail (printf "queue.name: expected %s, which the workflow templates of profile %s use, got %s: set it to the profile's `queue`" (join " or " $facts.queues) $profile $queue.name) -}}
{{- end -}}
{{- if and $queue.quota (not $queue.clusterQueue) -}}
  {{- fail "queue.clusterQueue: required by queue.quota: set the name of the ClusterQueue that the chart creates" -}}
{{- end -}}
{{- if and (or $queue.cohort $queue.preemption) (not $queue.quota) -}}
  {{- fail (printf "queue.%s: has no effect without queue.quota, because the ClusterQueue is then not the chart's: set it there" (ternary "cohort" "preemption" (ne $queue.cohort ""))) -}}
{{- end -}}
{{- $covered := "" -}}
{{- range $name, $quota := $queue.quota -}}
  {{- if not (hasKey $facts.pools $name) -}}
    {{- fail (printf "queue.quota.%s: profile %s trains in no pool of this name, only in: %s" $name $profile (keys $facts.pools | sortAlpha | join ", " | default "none")) -}}
  {{- end -}}
  {{- $pool := get $facts.pools $name -}}
  {{- $needed := concat (list "cpu" "memory") (ternary (list "nvidia.com/gpu") list (gt (int (default 0 $pool.gpus)) 0)) (keys (dig "network" "resources" dict $pool)) -}}
  {{- range $needed -}}
    {{- if not (hasKey $quota .) -}}
      {{- fail (printf "queue.quota.%s: expected a quota of %s, which the pool's pods request: without it, no training is admitted" $name .) -}}
    {{- end -}}
  {{- end -}}
  {{- $resources := keys $quota | sortAlpha | join ", " -}}
  {{- if and $covered (ne $covered $resources) -}}
    {{- fail (printf "queue.quota.%s: expected the resources of the other pools (%s), got %s: set a quota of 0 for a resource that a pool does not have" $name $covered $resources) -}}
  {{- end -}}
  {{- $covered = $resources -}}
  {{- range $resource, $amount := $quota -}}
    {{- if and (kindIs "map" $amount) (or (hasKey $amount "borrowingLimit") (hasKey $amount "lendingLimit")) (not $queue.cohort) -}}
      {{- fail (printf "queue.cohort: required by the limits of queue.quota.%s.%s: quota is borrowed and lent within a cohort" $name $resource) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{- define "mm1.checkMonitoring" -}}
{{- $values := (index . 0).Values -}}{{- $facts := index . 1 -}}{{- $profile := index . 2 -}}
{{- $port := toString $values.networkPolicy.monitoring.port -}}
{{- if and $values.monitoring.podMonitor.enabled $values.networkPolicy.enabled $facts.ports (not (has $port (toStrings $facts.ports))) -}}
  {{- fail (printf "networkPolicy.monitoring.port: expected %s, at which the supervisors of profile %s have their metrics, got %s: set it to the profile's metrics_port" (join " or " $facts.ports) $profile $port) -}}
{{- end -}}
{{- if and $values.monitoring.podMonitor.enabled $facts.pools (not $facts.ports) -}}
  {{- fail (printf "monitoring.podMonitor.enabled: expected false, because the supervisors of profile %s have no metrics: compile it with metrics_port: %s, or disable the monitor" $profile $port) -}}
{{- end -}}
{{- end }}

{{- define "mm1.checkServing" -}}
{{- with (index . 0).Values.serving -}}
{{- if .enabled -}}
{{- if and .rollout.enabled .model -}}
  {{- fail "serving.model: expected an empty value with serving.rollout.enabled, because the step `rollout` sets the model: promote it with `mm1 rollout promote ADDRESS -n NAMESPACE`" -}}
{{- end -}}
{{- if not (or .rollout.enabled .model) -}}
  {{- fail "serving.model: set the manifest of the deployment to serve (s3://bucket/prefix/manifests/<sha256>.json, the output of the run's task `deploy`), or serving.rollout.enabled" -}}
{{- end -}}
{{- if and .verifyKey.secret .verifyKey.configMap -}}
  {{- fail "serving.verifyKey: set either secret or configMap, not both" -}}
{{- end -}}
{{- if and .requireSignature (not (or .verifyKey.secret .verifyKey.configMap)) -}}
  {{- fail "serving.verifyKey: required by serving.requireSignature: set secret or configMap to the object with the public key, or requireSignature to false to serve unsigned models" -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
  {{- fail (printf "serving.autoscaling.maxReplicas: expected at least minReplicas, which is %d, got %d" (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and .gateway.enabled (not .gateway.parentRefs) -}}
  {{- fail "serving.gateway.parentRefs: required by serving.gateway.enabled: name your Gateway, for example [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- if and .kserve.enabled (not .rollout.enabled) -}}
  {{- fail "serving.kserve.enabled: requires serving.rollout.enabled, because the step `rollout` sets the model" -}}
{{- end -}}
{{- if and .kserve.enabled (or .gateway.enabled .autoscaling.enabled) -}}
  {{- fail "serving.kserve.enabled: KServe makes the route and sets the number of pods: set serving.gateway.enabled and serving.autoscaling.enabled to false" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Fails for what is no cron line. Arguments: (list "path of the value" "text").
*/}}
{{- define "mm1.checkCron" -}}
{{- $path := index . 0 -}}{{- $text := index . 1 -}}
{{- if not (regexMatch "^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every ([0-9.]+(h|m|s|ms))+)$" $text) -}}
  {{- $words := regexSplit "\\s+" (trim $text) -1 -}}
  {{- if ne (len $words) 5 -}}
    {{- fail (printf "%s: expected a cron line of 5 fields (minute, hour, day of the month, month, day of the week) such as \"0 3 * * 6\", or @daily, got %q" $path $text) -}}
  {{- end -}}
  {{- $names := list "minute" "hour" "day of the month" "month" "day of the week" -}}
  {{- $numbers := list "[0-5]?[0-9]" "([01]?[0-9]|2[0-3])" "(0?[1-9]|[12][0-9]|3[01])" "(0?[1-9]|1[0-2]|[A-Za-z]{3})" "(0?[0-6]|[A-Za-z]{3})" -}}
  {{- $limits := list "0 to 59" "0 to 23" "1 to 31" "1 to 12 or jan to dec" "0 to 6 or sun to sat" -}}
  {{- range $index, $word := $words -}}
    {{- $number := index $numbers $index -}}
    {{- $part := printf "(\\*|\\?|%s(-%s)?)(/[1-9][0-9]*)?" $number $number -}}
    {{- if not (regexMatch (printf "^%s(,%s)*$" $part $part) $word) -}}
      {{- fail (printf "%s: %q: %s: expected *, %s, a range such as 1-5, or a step such as */15, got %q" $path $text (index $names $index) (index $limits $index) $word) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}
