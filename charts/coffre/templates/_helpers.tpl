{{/* The name of every object: the release's, or release-chart where the one does not hold the other. */}}
{{- define "coffre.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods. A DaemonSet's selector can never be changed: add nothing here. */}}
{{- define "coffre.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The labels of an object. Ours win over the user's, or the selector would miss its pods. */}}
{{- define "coffre.labels" -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service -}}
{{- toYaml (merge (include "coffre.selectorLabels" . | fromYaml) $ours .Values.commonLabels) -}}
{{- end -}}

{{- define "coffre.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "coffre.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "coffre.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* "true" where Coffre reads or writes anything in Kubernetes, and empty where it does not. */}}
{{- define "coffre.callsKubernetes" -}}
{{- if or .Values.rbac.serviceAccountAnnotations.enabled .Values.rbac.nodes.enabled .Values.events.enabled }}true{{ end -}}
{{- end -}}

{{/* The stores of AWS that sign in by IRSA and leave the role to the ServiceAccount's annotation, joined by commas. */}}
{{- define "coffre.annotatedStores" -}}
{{- $names := list -}}
{{- range $name, $store := .Values.stores -}}
{{- if and (hasPrefix "aws-" $store.kind) (not $store.roleARN) (ne $store.identity "provider") (or (not $store.auth) (eq $store.auth "irsa")) }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- sortAlpha $names | join ", " -}}
{{- end -}}

{{/* The dialects that are switched on, joined by commas, in alphabetical order. */}}
{{- define "coffre.dialects" -}}
{{- $on := list -}}
{{- range $name, $dialect := .Values.dialects -}}
{{- if $dialect.enabled }}{{ $on = append $on $name }}{{ end -}}
{{- end -}}
{{- if not $on }}{{ fail "dialects: switch on at least one, or Coffre serves nothing" }}{{ end -}}
{{- join "," $on -}}
{{- end -}}

{{- define "coffre.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{/*
A quantity of bytes as Kubernetes writes one, in bytes. Called with the name
that an error gives it, and its value: 64Mi, 1.5G, 1e9, 128974848000m, a number.
*/}}
{{- define "coffre.bytes" -}}
{{- $text := toString .value -}}
{{- if kindIs "float64" .value }}{{ $text = printf "%.0f" .value }}{{ end -}}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][+-]?[0-9]{1,2}|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$" $text) -}}
{{- fail (printf "%s: %q is no quantity of bytes; write it as 64Mi, 1Gi, 500M or in bytes" .name $text) -}}
{{- end -}}
{{- $factors := dict "" 1 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $suffix := regexFind "(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)$" $text -}}
{{- printf "%.0f" (mulf (trimSuffix $suffix $text | float64) (get $factors $suffix)) -}}
{{- end -}}

{{/* A duration such as 1m30s in milliseconds, rounded down; 0 for an empty one. */}}
{{- define "coffre.milliseconds" -}}
{{- $total := 0.0 -}}
{{- $factors := dict "ns" 1e-6 "us" 1e-3 "ms" 1 "s" 1e3 "m" 6e4 "h" 3.6e6 -}}
{{- range regexFindAll "[0-9.]+(ns|us|ms|s|m|h)" (toString .) -1 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- $total = addf $total (mulf (trimSuffix $unit . | float64) (get $factors $unit)) -}}
{{- end -}}
{{- printf "%.0f" (floor $total) -}}
{{- end -}}

{{/* The program ends at these bounds, or is killed: see cmd/coffre's --mount-timeout. */}}
{{- define "coffre.bounds" -}}
{{- if .Values.mountTimeout -}}
{{- $ms := include "coffre.milliseconds" .Values.mountTimeout | int64 -}}
{{- if or (gt $ms 110000) (lt $ms 1) -}}
{{- fail (printf "mountTimeout: %s: must be above 0 and at most 110s: kubelet waits 120s, and a mount that it gives up leaves the pod with an empty volume" .Values.mountTimeout) -}}
{{- end -}}
{{- end -}}
{{- with dig "limits" "memory" "" (.Values.resources | default dict) -}}
{{- $limit := include "coffre.bytes" (dict "name" "resources.limits.memory" "value" .) | float64 -}}
{{- $cache := include "coffre.cacheBytes" $ | default "33554432" | float64 -}}
{{- if gt $cache (mulf $limit 0.75) -}}
{{- fail (printf "cache.maxBytes: %.0f bytes leave too little of the memory limit, %v, for values in flight: keep it under three quarters of resources.limits.memory" $cache .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "coffre.cacheBytes" -}}
{{- with .Values.cache.maxBytes -}}
{{- include "coffre.bytes" (dict "name" "cache.maxBytes" "value" .) -}}
{{- end -}}
{{- end -}}

{{/*
GOMEMLIMIT in MiB: 90 % of the container's memory limit, empty where there is
none. Computed here, because the downward API can only give the whole limit:
the runtime would then count on the room that the program's own pages and the
kernel's socket buffers take, and be killed before it frees anything.
*/}}
{{- define "coffre.goMemLimit" -}}
{{- with dig "limits" "memory" "" (.Values.resources | default dict) -}}
{{- $bytes := include "coffre.bytes" (dict "name" "resources.limits.memory" "value" .) | float64 -}}
{{- printf "%dMiB" (divf (mulf $bytes 0.9) 1048576 | floor | int64) -}}
{{- end -}}
{{- end -}}
