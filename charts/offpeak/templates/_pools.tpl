{{/* The pools: each is a copy of `worker` with what the pool says laid over it. */}}

{{/* Lays `over` over `base`, in place; unlike mergeOverwrite it also takes false, 0 and empty. */}}
{{- define "offpeak.overlay" -}}
{{- $base := .base }}
{{- range $key, $value := .over }}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) }}
{{- include "offpeak.overlay" (dict "base" (get $base $key) "over" $value) }}
{{- else }}
{{- $_ := set $base $key $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* All pools as JSON, by name. */}}
{{- define "offpeak.pools" -}}
{{- $pools := dict }}
{{- range $name, $own := .Values.pools }}
{{- if not (kindIs "invalid" $own) }}
{{- $pool := deepCopy $.Values.worker }}
{{- include "offpeak.overlay" (dict "base" $pool "over" $own) }}
{{- $_ := set $pools $name $pool }}
{{- end }}
{{- end }}
{{- toJson $pools }}
{{- end }}

{{/* grid.pools: NAME:LANES, separated by commas. */}}
{{- define "offpeak.gridPools" -}}
{{- $entries := list }}
{{- range $name, $pool := include "offpeak.pools" . | fromJson }}
{{- $entries = append $entries (printf "%s:%d" $name (int64 $pool.lanes)) }}
{{- end }}
{{- join "," $entries }}
{{- end }}

{{/* The pool that `helm test` uses. */}}
{{- define "offpeak.testPool" -}}
{{- $pools := include "offpeak.pools" . | fromJson }}
{{- $first := keys $pools | sortAlpha | first }}
{{- .Values.test.pool | default (hasKey $pools "open" | ternary "open" $first) }}
{{- end }}
