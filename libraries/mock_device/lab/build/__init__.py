"""Builds the artifacts of a cluster (QEMU, Kubernetes, images, kernel module) and caches them."""
