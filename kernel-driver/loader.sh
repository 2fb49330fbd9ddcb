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

# The kernel reads firmware from the node's files, not from this container's: first from the folder that its parameter
# firmware_class.path names, then from /lib/firmware. FIRMWARE_FOLDER is the node's folder that is mounted here.
node_firmware=/node-firmware
search_path=/node-firmware-class/path
ours=$node_firmware/mock-accel

install_firmware() {
	mkdir -p "$ours"
	cp /opt/lib/firmware/mock-accel/mock-accel.fw "$ours/new"
	mv "$ours/new" "$ours/mock-accel.fw"
	# There the kernel looks in any case.
	[ "$FIRMWARE_FOLDER" != /lib/firmware ] || return 0
	found=$(cat "$search_path")
	case $found in
	"$FIRMWARE_FOLDER") ;;
	'' | /lib/firmware)
		printf %s "$found" >"$ours/former-path"
		printf %s "$FIRMWARE_FOLDER" >"$search_path"
		;;
	*)
		echo "expected the kernel parameter firmware_class.path empty, /lib/firmware or $FIRMWARE_FOLDER," \
			"found $found: another program needs it; set the chart's value module.pod.firmwareFolder to $found" >&2
		exit 1
		;;
	esac
}

remove_firmware() {
	# Another program may have changed it meanwhile, or use the folder, too.
	if [ -e "$ours/former-path" ] && [ "$(cat "$search_path")" = "$FIRMWARE_FOLDER" ] &&
		[ "$(ls -A "$node_firmware")" = mock-accel ]; then
		# One write(2), which ends with a NUL: without a byte to write there would be none.
		printf '%s\000' "$(cat "$ours/former-path")" >"$search_path"
	fi
	rm -rf "$ours"
}

unload() {
	if modprobe -r "$module"; then
		echo "$module unloaded"
		if [ -n "${FIRMWARE_FOLDER:-}" ]; then
			remove_firmware
		fi
	else
		echo "$module stays loaded, probably because a device is in use"
	fi
	exit 0
}

if [ -n "${FIRMWARE_FOLDER:-}" ]; then
	install_firmware
fi
trap unload TERM INT
modprobe "$module"
echo "$module loaded for kernel $kernel"
# A shell runs traps only between commands, so sleep in the background and wait.
while :; do
	sleep 86400 &
	wait $!
done
