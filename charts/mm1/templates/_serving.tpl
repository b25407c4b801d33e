{{- /* The server's container and its volumes, of a Deployment or of a ServingRuntime: (list $ NAME). */}}
{{- define "mm1.servingContainers" }}
{{- $root := index . 0 }}{{ $name := index . 1 }}
{{- with $root.Values.serving }}
- name: {{ $name }}
  image: {{ include "mm1.servingImage" $root | quote }}
  imagePullPolicy: {{ .imagePullPolicy }}
  command: [python, -m, mm1.serve]
  args:
    - {{ printf "--model=%s" (ternary "$(MM1_MODEL)" .model .rollout.enabled) | quote }}
    - {{ printf "--name=%s" .modelName | quote }}
    {{- if not (kindIs "invalid" .maxTokens) }}
    - --max-tokens={{ int .maxTokens }}
    {{- end }}
    - --max-images={{ int .maxImages }}
    - --max-running={{ int .maxRunning }}
    - --max-waiting={{ int .maxWaiting }}
    - --dtype={{ .dtype }}
    - --drain={{ int .drainSeconds }}
    {{- if eq (.logFormat | default "text") "json" }}
    - --log-format=json
    {{- end }}
    {{- with .corsOrigins }}
    - {{ printf "--cors-origins=%s" (join "," .) | quote }}
    {{- end }}
    {{- with .imageHosts }}
    - {{ printf "--image-hosts=%s" (join "," .) | quote }}
    {{- end }}
    {{- if .requireSignature }}
    - --require-signature
    {{- end }}
    {{- if or .verifyKey.secret .verifyKey.configMap }}
    - --verify-key=/etc/mm1/verify/{{ .verifyKey.key }}
    {{- end }}
    - --host=0.0.0.0
    - --port=8000
  ports: [{name: http, containerPort: 8000, protocol: TCP}]
  env:
    {{- if .rollout.enabled }}
    # Not rendered: the step `rollout` sets the annotation, and an upgrade of the chart keeps it.
    - {name: MM1_MODEL, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['mm1.dev/model']"}}}
    {{- end }}
    {{- if not (hasKey .environment "HOME") }}
    - {name: HOME, value: /tmp}
    {{- end }}
    {{- if not (hasKey .environment "OMP_NUM_THREADS") }}
    # One thread per core of the container, not of the node.
    - {name: OMP_NUM_THREADS, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    {{- end }}
    {{- if not (hasKey .environment "GOMP_SPINCOUNT") }}
    # Waiting threads sleep soon: spinning ones use up the container's CPU quota.
    - {name: GOMP_SPINCOUNT, value: "5000"}
    {{- end }}
    {{- if .apiKey.secret }}
    - {name: MM1_API_KEY, valueFrom: {secretKeyRef: {name: {{ .apiKey.secret | quote }}, key: {{ .apiKey.key | quote }}}}}
    {{- end }}
    {{- range $name, $value := .environment }}
    - {name: {{ $name | quote }}, value: {{ include "mm1.text" $value | quote }}}
    {{- end }}
  {{- with $root.Values.serving.store.secret | default $root.Values.store.secret }}
  envFrom:
    - secretRef: {name: {{ . | quote }}}
  {{- end }}
  securityContext:
    {{- include "mm1.containerSecurity" . | nindent 4 }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  # Startup: the model is loaded and has answered a question about an image. Readiness: it answers with one token.
  startupProbe:
    exec: {command: [python, -m, mm1.serve.probe, "--url=http://127.0.0.1:8000", --timeout=55]}
    periodSeconds: 10
    timeoutSeconds: 60
    failureThreshold: {{ max 1 (div (int .probe.startupSeconds) 10) }}
  readinessProbe:
    exec:
      command: [python, -m, mm1.serve.probe, "--url=http://127.0.0.1:8000", --max-tokens=1, --timeout={{ int .probe.timeoutSeconds }}]
    periodSeconds: {{ int .probe.periodSeconds }}
    timeoutSeconds: {{ add (int .probe.timeoutSeconds) 5 }}
    failureThreshold: 3
  # Liveness: never waits for answers; fails when the thread that generates them has ended.
  livenessProbe:
    httpGet: {path: /healthz, port: http}
    periodSeconds: 20
    timeoutSeconds: 10
    failureThreshold: 6
  # Requests are routed to other pods before the server stops.
  lifecycle: {preStop: {sleep: {seconds: 5}}}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: shm, mountPath: /dev/shm}
    {{- if or .verifyKey.secret .verifyKey.configMap }}
    - {name: verify-key, mountPath: /etc/mm1/verify, readOnly: true}
    {{- end }}
    {{- range $index, $volume := .volumes }}
    - {name: claim-{{ $index }}, mountPath: {{ $volume.mountPath | quote }}, readOnly: true}
    {{- end }}
{{- end }}
{{- end }}
{{- define "mm1.servingVolumes" }}
{{- $root := . }}
{{- with $root.Values.serving }}
- {name: tmp, emptyDir: {sizeLimit: {{ .scratch }}}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ .sharedMemory }}}}
{{- if .verifyKey.secret }}
- {name: verify-key, secret: {secretName: {{ .verifyKey.secret | quote }}}}
{{- else if .verifyKey.configMap }}
- {name: verify-key, configMap: {name: {{ .verifyKey.configMap | quote }}}}
{{- end }}
{{- range $index, $volume := .volumes }}
- {name: claim-{{ $index }}, persistentVolumeClaim: {claimName: {{ $volume.claim | quote }}, readOnly: true}}
{{- end }}
{{- end }}
{{- end }}
