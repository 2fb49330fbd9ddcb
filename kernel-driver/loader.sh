#!/bin/sh
# Loads mock_accel while the pod runs, and unloads it at the end if no device is in use.
set -eu

kernel=$(uname -r)
module=mock_accel

if [ ! -d "/opt/lib/modules/$kernel" ]; then
	echo "no module for kernel $kernel in this image; it has: $(ls /opt/lib/modules)" >&2
	exit 1
fi

# Full path, because busybox's shell prefers its built-in modprobe.
modprobe() {
	/usr/sbin/modprobe -d /opt "$@"
}

unload() {
	if modprobe -r "$module"; then
		echo "$module unloaded"
	else
		echo "$module stays loaded, probably because a device is in use"
	fi
	exit 0
}

# The kernel reads firmware from the node's files, not from this container's.
if [ -d /node-firmware ]; then
	cp /opt/lib/firmware/mock-accel/mock-accel.fw /node-firmware/new
	mv /node-firmware/new /node-firmware/mock-accel.fw
fi

trap unload TERM INT
modprobe "$module"
echo "$module loaded for kernel $kernel"
# A shell runs traps only between commands, so sleep in the background and wait.
while :; do
	sleep 86400 &
	wait $!
done
