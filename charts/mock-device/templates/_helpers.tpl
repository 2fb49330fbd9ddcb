{{/* The driver's name, also that of its folder below the kubelet's plugins. */}}
{{- define "mock-device.driverName" -}}
mock-accel.example.com
{{- end }}

{{- define "mock-device.driverImage" -}}
{{ .Values.driver.image.repository }}:{{ .Values.driver.image.tag }}
{{- end }}

{{- define "mock-device.moduleImage" -}}
{{ .Values.module.image.repository }}:{{ .Values.module.image.tag }}
{{- end }}

{{/* Whether KMM loads the module: a non-empty string if so. */}}
{{- define "mock-device.withKmm" -}}
{{- if has .Values.module.loader (list "kmm" "kmm-build") }}yes{{ end }}
{{- end }}

{{/* Probes of a container that serves /readyz on its port `health`. */}}
{{- define "mock-device.probes" -}}
# Probe often during the start and rarely afterwards: a probe is expensive on a slow node.
startupProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 180
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
