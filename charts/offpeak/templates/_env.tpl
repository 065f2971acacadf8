{{/* Environment of the services: settings in a ConfigMap, credentials from Secrets. */}}

{{/* The broker as a component sees it, as JSON. Takes ctx, component and values. */}}
{{- define "offpeak.broker" -}}
{{- $broker := deepCopy .ctx.Values.broker }}
{{- if .ctx.Values.rabbitmqOperator.users.enabled }}
{{- $secret := printf "%s-user-credentials" (include "offpeak.componentname" .) }}
{{- $broker = merge (dict "existingSecret" $secret "usernameKey" "username" "passwordKey" "password") (omit $broker "uri") }}
{{- if hasPrefix "worker-" .component }}{{ $_ := set $broker "declareTopology" false }}{{ end }}
{{- if .ctx.Values.rabbitmqOperator.topology.enabled }}{{ $_ := set $broker "declareTopology" false }}{{ end }}
{{- end }}
{{- with .values.broker }}
{{- include "offpeak.overlay" (dict "base" $broker "over" .) }}
{{- if .existingSecret }}{{ $_ := set $broker "uri" "" }}{{ end }}
{{- end }}
{{- toJson $broker }}
{{- end }}

{{/* One variable from a key of a Secret. Takes name, secret and key. */}}
{{- define "offpeak.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}

{{/* User and password from a Secret, for an address that is put together. Takes prefix and server. */}}
{{- define "offpeak.login" -}}
{{ include "offpeak.fromSecret" (dict "name" (printf "%s_USERNAME" .prefix) "secret" .server.existingSecret "key" .server.usernameKey) }}
{{ include "offpeak.fromSecret" (dict "name" (printf "%s_PASSWORD" .prefix) "secret" .server.existingSecret "key" .server.passwordKey) }}
{{- end }}

{{/* The broker's variables. Takes ctx, component and values. */}}
{{- define "offpeak.brokerEnv" -}}
{{- $broker := include "offpeak.broker" . | fromJson }}
{{- $name := "OFFPEAK__AMQP__URL" }}
{{- if $broker.uri }}
{{- include "offpeak.fromSecret" (dict "name" $name "secret" (include "offpeak.inlineSecret" .ctx) "key" "broker-uri") }}
{{- else if $broker.host }}
{{- $port := $broker.port | default ($broker.tls | ternary 5671 5672) }}
{{- $vhost := $broker.vhost | urlquery | replace "+" "%20" }}
{{- include "offpeak.login" (dict "prefix" "BROKER" "server" $broker) }}
- name: {{ $name }}
  value: {{ printf "%s://$(BROKER_USERNAME):$(BROKER_PASSWORD)@%s:%s/%s" ($broker.tls | ternary "amqps" "amqp") $broker.host (include "offpeak.scalar" $port) $vhost }}
{{- else }}
{{- include "offpeak.fromSecret" (dict "name" $name "secret" $broker.existingSecret "key" $broker.uriKey) }}
{{- end }}
{{- end }}

{{/* The management side's variable, for producers. Takes ctx, component and values; comes after the broker's. */}}
{{- define "offpeak.managementEnv" -}}
{{- $broker := include "offpeak.broker" . | fromJson }}
{{- $management := $broker.management }}
{{- $name := "OFFPEAK__AMQP__MANAGEMENT_URL" }}
{{- if $management.existingSecret }}
{{ include "offpeak.fromSecret" (dict "name" $name "secret" $management.existingSecret "key" $management.uriKey) }}
{{- else if $management.port }}
- name: {{ $name }}
  value: {{ printf "%s://$(BROKER_USERNAME):$(BROKER_PASSWORD)@%s:%s" ($broker.tls | ternary "https" "http") $broker.host (include "offpeak.scalar" $management.port) }}
{{- end }}
{{- end }}

{{/* The database's variables. */}}
{{- define "offpeak.databaseEnv" -}}
{{- $database := .Values.database }}
{{- $name := "OFFPEAK__DATABASE__URL" }}
{{- if $database.uri }}
{{- include "offpeak.fromSecret" (dict "name" $name "secret" (include "offpeak.inlineSecret" .) "key" "database-uri") }}
{{- else if $database.host }}
{{- include "offpeak.login" (dict "prefix" "DATABASE" "server" $database) }}
- name: {{ $name }}
  value: {{ printf "postgres://$(DATABASE_USERNAME):$(DATABASE_PASSWORD)@%s:%s/%s%s" $database.host (include "offpeak.scalar" $database.port) ($database.name | urlquery) (empty $database.parameters | ternary "" (printf "?%s" $database.parameters)) }}
{{- else }}
{{- include "offpeak.fromSecret" (dict "name" $name "secret" $database.existingSecret "key" $database.uriKey) }}
{{- end }}
{{- end }}

{{/* Trust in the CA bundle, if there is one. */}}
{{- define "offpeak.caEnv" -}}
{{- if or .Values.caBundle.existingSecret .Values.caBundle.existingConfigMap }}
- name: SSL_CERT_FILE
  value: /etc/offpeak/ca/ca.crt
{{- end }}
{{- end }}

{{- define "offpeak.caVolume" -}}
{{- $bundle := .Values.caBundle }}
{{- if or $bundle.existingSecret $bundle.existingConfigMap }}
- name: ca
  {{- if $bundle.existingSecret }}
  secret:
    secretName: {{ $bundle.existingSecret }}
  {{- else }}
  configMap:
    name: {{ $bundle.existingConfigMap }}
  {{- end }}
    items:
      - key: {{ $bundle.key }}
        path: ca.crt
{{- end }}
{{- end }}

{{- define "offpeak.caMount" -}}
{{- if or .Values.caBundle.existingSecret .Values.caBundle.existingConfigMap }}
- name: ca
  mountPath: /etc/offpeak/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "offpeak.inlineSecret" -}}
{{- include "offpeak.componentname" (dict "ctx" . "component" "credentials") }}
{{- end }}

{{/* Settings that every service has, as variables. Takes ctx, component, values, graceSeconds (within the pod's) and, of a
     worker, its pool. */}}
{{- define "offpeak.settings" -}}
{{- $broker := include "offpeak.broker" . | fromJson }}
OFFPEAK__ADMIN__ADDRESS: {{ printf "%s:9460" .ctx.Values.adminBind | quote }}
OFFPEAK__AMQP__DECLARE: {{ $broker.declareTopology | quote }}
OFFPEAK__GRID__POOLS: {{ include "offpeak.gridPools" .ctx | quote }}
OFFPEAK__GRID__SHUTDOWN_GRACE_MS: {{ mul 1000 (int64 .graceSeconds) | quote }}
{{- with .pool }}
OFFPEAK__WORKER__POOL: {{ . | quote }}
{{- end }}
{{- range $section, $keys := .ctx.Values.settings }}
{{- range $key, $value := $keys }}
OFFPEAK__{{ upper $section }}__{{ upper $key }}: {{ include "offpeak.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- end }}
