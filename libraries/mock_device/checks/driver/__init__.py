"""Controls and checks the driver's pods: components, logs, metrics, crashes."""
