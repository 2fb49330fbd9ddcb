#!/bin/sh
# Loads mock_accel for as long as the pod lives; unloads it at the end if no device is in use.
set -eu

kernel=$(uname -r)
module=mock_accel

if [ ! -d "/opt/lib/modules/$kernel" ]; then
	echo "no module for kernel $kernel in this image; it has: $(ls /opt/lib/modules)" >&2
	exit 1
fi

# The full path: a shell of busybox takes its own modprobe.
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

trap unload TERM INT
modprobe "$module"
echo "$module loaded for kernel $kernel"
# A shell runs its trap only between commands: wait in the background.
while :; do
	sleep 86400 &
	wait $!
done
