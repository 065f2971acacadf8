{{/* Numbers that follow from others: drain, grace, deadlines, memory. */}}

{{/* A number as text: never 1e+06. */}}
{{- define "offpeak.scalar" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* MiB of a quantity of memory, rounded down. */}}
{{- define "offpeak.mebibytes" -}}
{{- $text := toString . }}
{{- if hasSuffix "Gi" $text }}{{ mulf (trimSuffix "Gi" $text | float64) 1024 | int64 }}
{{- else if hasSuffix "Mi" $text }}{{ trimSuffix "Mi" $text | float64 | int64 }}
{{- else if hasSuffix "Ki" $text }}{{ divf (trimSuffix "Ki" $text | float64) 1024 | int64 }}
{{- else if hasSuffix "Ti" $text }}{{ mulf (trimSuffix "Ti" $text | float64) 1048576 | int64 }}
{{- else if hasSuffix "G" $text }}{{ mulf (trimSuffix "G" $text | float64) 953.674 | int64 }}
{{- else if hasSuffix "M" $text }}{{ mulf (trimSuffix "M" $text | float64) 0.953674 | int64 }}
{{- else }}{{ divf (float64 $text) 1048576 | int64 }}
{{- end }}
{{- end }}

{{/* The longest unit of any pool, which producers cut units to. */}}
{{- define "offpeak.maxUnitSeconds" -}}
{{- $longest := 0 }}
{{- range $name, $pool := include "offpeak.pools" . | fromJson }}
{{- $longest = max $longest (int64 $pool.maxUnitSeconds) }}
{{- end }}
{{- $longest }}
{{- end }}

{{/* After so long a replica that was not answered is sent again. */}}
{{- define "offpeak.replicaDeadlineSeconds" -}}
{{- mul 4 (include "offpeak.maxUnitSeconds" .) }}
{{- end }}

{{/* RabbitMQ's consumer timeout: a unit may wait for its slot, and it counts from delivery. */}}
{{- define "offpeak.consumerTimeoutSeconds" -}}
{{- max 1800 (mul 4 (include "offpeak.maxUnitSeconds" .)) }}
{{- end }}

{{/* The pod's grace period of a pool. */}}
{{- define "offpeak.workerGraceSeconds" -}}
{{- add (int64 .maxUnitSeconds) (int64 .drainMarginSeconds) }}
{{- end }}

{{/* Memory that a worker needs, in MiB: its executors and itself. */}}
{{- define "offpeak.workerMebibytes" -}}
{{- add (mul (int64 .slots) (include "offpeak.mebibytes" .executorMemory)) 512 }}
{{- end }}
