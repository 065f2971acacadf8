{{/* Names and labels. */}}

{{- define "offpeak.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "offpeak.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "offpeak.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Name of a component's objects; the component always survives the cut. Takes ctx and component. */}}
{{- define "offpeak.componentname" -}}
{{- $room := sub 62 (len .component) | int }}
{{- printf "%s-%s" (include "offpeak.fullname" .ctx | trunc $room | trimSuffix "-") .component }}
{{- end }}

{{/* What selects a component's pods; it never changes. Takes ctx and component. */}}
{{- define "offpeak.selector" -}}
app.kubernetes.io/name: {{ include "offpeak.name" .ctx }}
app.kubernetes.io/instance: {{ .ctx.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object. Takes ctx and component. */}}
{{- define "offpeak.labels" -}}
{{ include "offpeak.selector" . }}
app.kubernetes.io/version: {{ .ctx.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: offpeak
app.kubernetes.io/managed-by: {{ .ctx.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .ctx.Chart.Name .ctx.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .ctx.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a component's pods: without what changes with each version of the chart. Takes ctx, component and values. */}}
{{- define "offpeak.podLabels" -}}
{{ include "offpeak.selector" . }}
app.kubernetes.io/part-of: offpeak
{{- with .ctx.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "offpeak.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "offpeak.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "offpeak.image" -}}
{{- $image := .Values.image }}
{{- $registry := $image.registry | default .Values.global.imageRegistry }}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "offpeak.pullSecrets" -}}
{{- with concat (.Values.imagePullSecrets | default list) (.Values.global.imagePullSecrets | default list) }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}
