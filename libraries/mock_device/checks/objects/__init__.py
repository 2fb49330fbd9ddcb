"""Kubernetes objects: ResourceSlices, claims, pods."""
