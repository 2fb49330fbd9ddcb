"""Kubernetes on the host: etcd, API server, scheduler, controllers, and their certificates."""
