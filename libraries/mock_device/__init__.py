"""Mock accelerators for developers of Kubernetes DRA drivers: clusters, checks, and the acceptance runner."""
