"""What the API server holds: ResourceSlices, claims, pods."""
