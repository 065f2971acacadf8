{{/* Parts of pods. */}}

{{/* What every pod has, whoever made it. */}}
{{- define "offpeak.podBase" -}}
{{- include "offpeak.podBaseWith" (dict "ctx" . "security" .Values.podSecurityContext) }}
{{- end }}

{{/* The same with a security context. Takes ctx and security. */}}
{{- define "offpeak.podBaseWith" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- include "offpeak.pullSecrets" .ctx }}
securityContext:
  {{- include "offpeak.withoutNulls" .security | nindent 2 }}
{{- end }}

{{/* A component's security context: a volume of one's own belongs to root unless its group is said; an emptyDir does not. */}}
{{- define "offpeak.security" -}}
{{- $security := deepCopy .ctx.Values.podSecurityContext }}
{{- if and .values.cacheVolume $security.runAsGroup (not (hasKey $security "fsGroup")) }}
{{- $_ := set $security "fsGroup" $security.runAsGroup }}
{{- $_ := set $security "fsGroupChangePolicy" "OnRootMismatch" }}
{{- end }}
{{- toJson $security }}
{{- end }}

{{/* A map without the keys that are null, which is how a default is taken away. */}}
{{- define "offpeak.withoutNulls" -}}
{{- $kept := dict }}
{{- range $key, $value := . }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $kept $key $value }}{{ end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}

{{/* What every container has. */}}
{{- define "offpeak.containerBase" -}}
image: {{ include "offpeak.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "offpeak.withoutNulls" .Values.containerSecurityContext | nindent 2 }}
{{- end }}

{{/* Where pods run, from a component's values. */}}
{{- define "offpeak.placing" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Spread over zones and hosts: softly, unless it is given. Takes ctx, component and values. */}}
{{- define "offpeak.spread" -}}
{{- if kindIs "invalid" .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "offpeak.selector" $ | nindent 8 }}
    matchLabelKeys:
      - pod-template-hash
  {{- end }}
{{- else }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Probes: what is given, on the admin side's pages. */}}
{{- define "offpeak.probes" -}}
{{- range $name, $path := dict "startup" "/startupz" "liveness" "/livez" "readiness" "/readyz" }}
{{ $name }}Probe:
  httpGet:
    path: {{ $path }}
    port: admin
  {{- toYaml (get $.probes $name) | nindent 2 }}
{{- end }}
{{- end }}

{{/* A component's ConfigMap and Deployment. Takes ctx, component, values, program, replicas (or none), resources, grace (of the pod),
     env, settings, labels, mounts and volumes, the last five as YAML. */}}
{{- define "offpeak.deployment" -}}
{{- $ctx := .ctx }}
{{- $values := .values }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "offpeak.componentname" . }}
  namespace: {{ $ctx.Release.Namespace }}
  labels:
    {{- include "offpeak.labels" . | nindent 4 }}
data:
  {{- .settings | trim | nindent 2 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "offpeak.componentname" . }}
  namespace: {{ $ctx.Release.Namespace }}
  labels:
    {{- include "offpeak.labels" . | nindent 4 }}
    {{- with .labels }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: {{ $ctx.Values.revisionHistoryLimit }}
  selector:
    matchLabels:
      {{- include "offpeak.selector" . | nindent 6 }}
  strategy:
    {{- eq $values.strategy.type "Recreate" | ternary (pick $values.strategy "type") $values.strategy | toYaml | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "offpeak.podLabels" . | nindent 8 }}
        {{- with .labels }}
        {{- . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/config: {{ .settings | trim | sha256sum }}
        {{- if or $ctx.Values.broker.uri $ctx.Values.database.uri }}
        checksum/credentials: {{ printf "%s %s" $ctx.Values.broker.uri $ctx.Values.database.uri | sha256sum }}
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "offpeak.podBaseWith" (dict "ctx" $ctx "security" (include "offpeak.security" . | fromJson)) | nindent 6 }}
      serviceAccountName: {{ include "offpeak.serviceAccountName" $ctx }}
      terminationGracePeriodSeconds: {{ .grace }}
      {{- with include "offpeak.placing" $values | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with include "offpeak.spread" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: {{ .program }}
          {{- include "offpeak.containerBase" $ctx | nindent 10 }}
          command:
            - /usr/local/bin/offpeak-{{ .program }}
          ports:
            - name: admin
              containerPort: 9460
              protocol: TCP
          envFrom:
            - configMapRef:
                name: {{ include "offpeak.componentname" . }}
            {{- with $values.extraEnvFrom }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          env:
            {{- .env | trim | nindent 12 }}
            {{- with include "offpeak.caEnv" $ctx | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- include "offpeak.probes" $values | trim | nindent 10 }}
          resources:
            {{- .resources | trim | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- with .mounts }}
            {{- . | trim | nindent 12 }}
            {{- end }}
            {{- with include "offpeak.caMount" $ctx | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with $values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 256Mi
        {{- with .volumes }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        {{- with include "offpeak.caVolume" $ctx | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}
