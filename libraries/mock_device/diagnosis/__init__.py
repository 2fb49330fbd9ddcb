"""``lab diagnose``: finds the first broken step on the way from the device to the container."""
