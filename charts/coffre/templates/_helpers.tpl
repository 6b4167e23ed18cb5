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

{{/* The dialects that are switched on, joined by commas, in alphabetical order. */}}
{{- define "coffre.dialects" -}}
{{- $on := list -}}
{{- range $name, $dialect := .Values.dialects -}}
{{- if $dialect.enabled }}{{ $on = append $on $name }}{{ end -}}
{{- end -}}
{{- if not $on }}{{ fail "dialects: switch on at least one, or Coffre serves nothing" }}{{ end -}}
{{- join "," $on -}}
{{- end -}}

{{/*
GOMEMLIMIT in MiB: 90 % of the container's memory limit, empty where there is
none. Computed here, because the downward API can only give the whole limit:
the runtime would then count on the room that the program's own pages and the
kernel's socket buffers take, and be killed before it frees anything.
*/}}
{{- define "coffre.goMemLimit" -}}
{{- with dig "limits" "memory" "" (.Values.resources | default dict) -}}
{{- $limit := toString . -}}
{{- if kindIs "float64" . }}{{ $limit = int64 . | toString }}{{ end -}}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|k|M|G)?$" $limit) -}}
{{- fail (printf "resources.limits.memory: %q: write it in bytes, or with k, M, G, Ki, Mi or Gi" $limit) -}}
{{- end -}}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $bytes := mulf (regexFind "^[0-9.]+" $limit | float64) (get $factors (regexFind "[A-Za-z]*$" $limit)) -}}
{{- printf "%dMiB" (divf (mulf $bytes 0.9) 1048576 | floor | int64) -}}
{{- end -}}
{{- end -}}
