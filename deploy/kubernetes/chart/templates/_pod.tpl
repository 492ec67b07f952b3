{{- /* What runs, for whichever keeps it running. */ -}}
{{- define "healthd.pod" -}}
metadata:
  labels:
    {{- include "healthd.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # Settings are read at the start: other settings are another pod.
    healthd/settings: {{ .Values.settings | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "healthd.name" . }}
  automountServiceAccountToken: false
  # Otherwise Kubernetes would set variables beginning with HEALTHD_ for the Services.
  enableServiceLinks: false
  # server.drain_timeout is 10 s.
  terminationGracePeriodSeconds: 30
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: healthd
      image: {{ include "healthd.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - name: HEALTHD_CONFIG
          value: /etc/healthd/healthd.toml
        - name: HEALTHD_STORE__URL
          value: {{ .Values.store.url | default "sqlite:////data/healthd.db" | quote }}
        {{- if and .Values.store.url .Values.store.passwordKey }}
        - name: HEALTHD_STORE__PASSWORD__FILE
          value: /run/secrets/database/password
        {{- end }}
        - name: HEALTHD_SERVER__LISTEN
          value: 0.0.0.0:8080
        - name: HEALTHD_SERVER__ADMIN_LISTEN
          value: 0.0.0.0:9090
        - name: HEALTHD_LOG__FORMAT
          value: json
        {{- with .Values.env }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        - name: public
          containerPort: 8080
        - name: private
          containerPort: 9090
      # A new release may have to bring a large database to its schema first.
      startupProbe:
        httpGet:
          path: /livez
          port: private
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet:
          path: /livez
          port: private
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /readyz
          port: private
        periodSeconds: 5
        timeoutSeconds: 5
      resources: {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      {{- if .Values.store.url }}
      # What sends requests here hears that this pod goes some seconds after it does.
      lifecycle:
        preStop:
          exec:
            command: [sleep, "5"]
      {{- end }}
      volumeMounts:
        {{- if not .Values.store.url }}
        - name: data
          mountPath: /data
        {{- else if .Values.store.passwordKey }}
        - name: database
          mountPath: /run/secrets/database
          readOnly: true
        {{- end }}
        - name: settings
          mountPath: /etc/healthd
          readOnly: true
        - name: secrets
          mountPath: /run/secrets/healthd
          readOnly: true
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: settings
      configMap:
        name: {{ include "healthd.name" . }}
    - name: secrets
      secret:
        secretName: {{ .Values.secretName }}
        defaultMode: 0440
    {{- if and .Values.store.url .Values.store.passwordKey }}
    - name: database
      secret:
        secretName: {{ .Values.store.passwordSecret | default .Values.secretName }}
        defaultMode: 0440
        items:
          - key: {{ .Values.store.passwordKey }}
            path: password
    {{- end }}
    - name: tmp
      emptyDir:
        medium: Memory
        sizeLimit: 64Mi
  {{- if .Values.store.url }}
  topologySpreadConstraints:
    {{- range .Values.spreadOver }}
    - topologyKey: {{ . }}
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "healthd.selector" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
