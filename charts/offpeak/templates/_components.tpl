{{/* Every Deployment with what other objects need to know of it, as a JSON list: component, values, fewest and most pods,
     and whether it needs the database. Wrapped in a map, since fromJson makes maps. */}}
{{- define "offpeak.components" -}}
{{- $all := list }}
{{- range $name := list "producer" "aggregator" }}
{{- $values := get $.Values $name }}
{{- $all = append $all (dict "component" $name "values" $values "pods" $values.replicas "database" true "management" (eq $name "producer")) }}
{{- end }}
{{- range $name, $pool := include "offpeak.pools" . | fromJson }}
{{- $scaled := ne $pool.autoscaling.type "none" }}
{{- $pods := $scaled | ternary $pool.autoscaling.maxReplicas $pool.replicas }}
{{- $all = append $all (dict "component" (printf "worker-%s" $name) "values" $pool "pods" $pods "database" false "management" false) }}
{{- end }}
{{- toJson (dict "list" $all) }}
{{- end }}
