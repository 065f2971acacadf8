{{/* Objects for RabbitMQ's messaging topology operator. */}}

{{/* The head of one. Takes ctx, kind and name. */}}
{{- define "offpeak.rabbitmqObject" }}
---
apiVersion: rabbitmq.com/v1beta1
kind: {{ .kind }}
metadata:
  name: {{ include "offpeak.componentname" (dict "ctx" .ctx "component" .name) }}
  namespace: {{ .ctx.Release.Namespace }}
  labels:
    {{- include "offpeak.labels" (dict "ctx" .ctx "component" "rabbitmq") | nindent 4 }}
spec:
  rabbitmqClusterReference:
    {{- toYaml .ctx.Values.rabbitmqOperator.clusterReference | nindent 4 }}
{{- end }}

{{/* The grid's queues as a JSON list: name, exchange, key, and whether one consumer at a time reads. */}}
{{- define "offpeak.queues" -}}
{{- $queues := list }}
{{- range $origin := list "submit" "fetch" }}
{{- $name := printf "offpeak.%s" $origin }}
{{- $queues = append $queues (dict "name" $name "exchange" $name "key" "#") }}
{{- end }}
{{- range $name, $pool := include "offpeak.pools" . | fromJson }}
{{- range $lane := until (int $pool.lanes) }}
{{- $key := printf "%s.%d" $name $lane }}
{{- $queues = append $queues (dict "name" (printf "offpeak.work.%s" $key) "exchange" "offpeak.work" "key" $key) }}
{{- end }}
{{- end }}
{{- range $shard := until (int (dig "grid" "shards" 4 .Values.settings)) }}
{{- $queues = append $queues (dict "name" (printf "offpeak.outcomes.%d" $shard) "exchange" "offpeak.outcomes" "key" (toString $shard) "single" true) }}
{{- end }}
{{- range $origin := list "submit" "work" "outcomes" "fetch" }}
{{- $queues = append $queues (dict "name" (printf "offpeak.dead.%s" $origin) "exchange" "offpeak.dead" "key" $origin) }}
{{- end }}
{{- $queues = append $queues (dict "name" "offpeak.outcomes.dead" "exchange" "offpeak.dead" "key" "work") }}
{{- toJson (dict "list" $queues) }}
{{- end }}

{{/* What a component may configure, write and read, as YAML. Takes ctx, component and values. */}}
{{- define "offpeak.permissions" -}}
{{- $broker := include "offpeak.broker" . | fromJson }}
{{- if eq .component "test" }}
{{- $mailbox := printf `offpeak\.customer\.%s\.results` .values.customer }}
configure: {{ printf "^%s$" $mailbox | quote }}
write: {{ printf `^(offpeak\.submit|%s)$` $mailbox | quote }}
read: {{ printf `^(offpeak\.customer|%s)$` $mailbox | quote }}
{{- else if eq .component "operator" }}
{{- /* Reads dead letters, and sends them where they came from: as in deploy/rabbitmq/users.json. */}}
configure: "^$"
write: {{ `^(offpeak\.submit|offpeak\.work|offpeak\.outcomes|offpeak\.fetch)$` | quote }}
read: {{ `^offpeak\.dead\.` | quote }}
{{- else if hasPrefix "worker-" .component }}
{{- $lanes := printf `offpeak\.work\.%s\.[0-9]+` (trimPrefix "worker-" .component) }}
configure: {{ `^offpeak\.worker\..+$` | quote }}
write: {{ `^offpeak\.(worker\..+|outcomes|fetch)$` | quote }}
read: {{ printf `^(%s|offpeak\.(worker(\..+)?|control))$` $lanes | quote }}
{{- else if $broker.declareTopology }}
{{- /* Who declares may configure all of the grid, and needs to write to queues and read exchanges to bind them. */}}
configure: {{ `^offpeak\.` | quote }}
write: {{ `^offpeak\.` | quote }}
read: {{ `^offpeak\.` | quote }}
{{- else if eq .component "producer" }}
configure: "^$"
write: {{ `^offpeak\.(work|worker|dead)$` | quote }}
read: {{ `^offpeak\.(submit|fetch|work\..+)$` | quote }}
{{- else }}
configure: {{ `^offpeak\.customer\..+\.results$` | quote }}
write: {{ `^offpeak\.(customer(\..+\.results)?|control|dead)$` | quote }}
read: {{ `^offpeak\.(outcomes\.([0-9]+|dead)|customer)$` | quote }}
{{- end }}
{{- end }}
