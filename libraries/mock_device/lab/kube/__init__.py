"""The client of the Kubernetes API: connections, waits with reasons, manifests."""
