"""What a cluster is built from, and the store that keeps it."""
