"""The driver as its pods run: components, logs, metrics, crashes."""
