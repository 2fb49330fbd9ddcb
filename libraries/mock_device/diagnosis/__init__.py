"""``lab diagnose``: the first broken stretch on the way from device to container."""
