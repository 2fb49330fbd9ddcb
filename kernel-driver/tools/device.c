// SPDX-License-Identifier: GPL-2.0
/* Devices: list them, open one, run jobs on it. */

#define _GNU_SOURCE	/* versionsort */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tools.h"

#define VALUE_BYTES	256

static const char *const statuses[] = {
	[0] = "PENDING",
	[MOCK_STATUS_DONE] = "DONE",
	[MOCK_STATUS_BAD_OPCODE] = "BAD_OPCODE",
	[MOCK_STATUS_BAD_FLAGS] = "BAD_FLAGS",
	[MOCK_STATUS_BAD_LENGTH] = "BAD_LENGTH",
	[MOCK_STATUS_SOURCE_FAULT] = "SOURCE_FAULT",
	[MOCK_STATUS_DESTINATION_FAULT] = "DESTINATION_FAULT",
	[MOCK_STATUS_BAD_LIST] = "BAD_LIST",
	[MOCK_STATUS_WINDOW_RANGE] = "WINDOW_RANGE",
	[MOCK_STATUS_LIMIT] = "LIMIT",
	[MOCK_STATUS_DEVICE_ERROR] = "DEVICE_ERROR",
};

static const char *folder(const char *variable, const char *usual)
{
	const char *value = getenv(variable);

	return value && *value ? value : usual;
}

static const char *class_folder(void)
{
	return folder("MOCK_ACCEL_CLASS_FOLDER", "/sys/class/mock-accel");
}

static const char *node_folder(void)
{
	return folder("MOCK_ACCEL_NODE_FOLDER", "/dev/mock-accel");
}

static int is_name(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* Names in a folder in natural order; none if it does not exist. */
static int names_in(const char *path, struct dirent ***names)
{
	int count = scandir(path, names, is_name, versionsort);

	if (count < 0 && errno != ENOENT && errno != ENOTDIR)
		die(EXIT_NO_DEVICE, "%s cannot be read: %s", path, strerror(errno));
	return count < 0 ? 0 : count;
}

static void read_attribute(const char *device, const char *name, char value[VALUE_BYTES])
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s/%s", class_folder(), device, name);
	file = fopen(path, "re");
	if (!file || !fgets(value, VALUE_BYTES, file))
		strcpy(value, errno == ENOENT ? "-" : "?");
	value[strcspn(value, "\n")] = '\0';
	if (file)
		fclose(file);
}

void list_devices(void)
{
	static const char *const columns[] = {
		"uuid", "mode", "window_size", "window_limit", "job_limit", "firmware_version", "health", "jobs",
	};
	const size_t count = sizeof(columns) / sizeof(*columns);
	struct dirent **names;
	char value[VALUE_BYTES], path[PATH_MAX];
	int found = names_in(class_folder(), &names);

	if (!found)
		die(EXIT_NO_DEVICE, "expected devices in %s, found none; is the kernel module loaded, and does the "
		    "container use a claim?", class_folder());
	printf("name");
	for (size_t i = 0; i < count; i++)
		printf("\t%s", columns[i]);
	printf("\tnode\n");
	for (int i = 0; i < found; i++) {
		printf("%s", names[i]->d_name);
		for (size_t j = 0; j < count; j++) {
			errno = 0;
			read_attribute(names[i]->d_name, columns[j], value);
			printf("\t%s", value);
		}
		snprintf(path, sizeof(path), "%s/%s", node_folder(), names[i]->d_name);
		printf("\t%s\n", access(path, F_OK) ? "-" : path);
	}
	finish_output();
}

/* The name of the device that the options mean. */
static const char *chosen(const struct options *options)
{
	struct dirent **names;
	char all[VALUE_BYTES] = "";
	int count;

	if (options->device)
		return options->device;
	count = names_in(node_folder(), &names);
	if (count == 1)
		return names[0]->d_name;
	if (!count)
		die(EXIT_NO_DEVICE, "expected a device in %s, found none; does the container use a claim?",
		    node_folder());
	for (int i = 0; i < count; i++) {
		strncat(all, i ? ", " : "", sizeof(all) - strlen(all) - 1);
		strncat(all, names[i]->d_name, sizeof(all) - strlen(all) - 1);
	}
	die(EXIT_USAGE, "expected one device in %s, found %d; choose by --device: %s", node_folder(), count, all);
}

void open_device(struct device *device, const struct options *options)
{
	const char *name = chosen(options);
	char path[PATH_MAX];

	if (strchr(name, '/') || strlen(name) > MOCK_NAME_LENGTH)
		die(EXIT_USAGE, "expected the name of a device like mock0, found %s", name);
	snprintf(path, sizeof(path), "%s/%s", node_folder(), name);
	snprintf(device->name, sizeof(device->name), "%s", name);
	device->timeout_ms = options->timeout_ms;
	device->fd = open(path, O_RDWR | O_CLOEXEC);
	if (device->fd < 0 && errno == EBUSY)
		die(EXIT_BUSY, "%s is open in another process, and its mode is exclusive", path);
	if (device->fd < 0)
		die(EXIT_NO_DEVICE, "%s cannot be opened: %s", path, strerror(errno));
	memset(&device->info, 0, sizeof(device->info));
	device->info.size = sizeof(device->info);
	if (ioctl(device->fd, MOCK_IOC_INFO, &device->info))
		die(EXIT_NO_DEVICE, "%s is no mock accelerator: %s", path, strerror(errno));
	if (device->info.version < MOCK_UAPI_VERSION)
		die(EXIT_NO_DEVICE, "%s: expected a kernel module with interface version %d, found %u", path,
		    MOCK_UAPI_VERSION, device->info.version);
}

void *map_window(struct device *device)
{
	void *window = mmap(NULL, device->info.window_limit, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, 0);

	if (window == MAP_FAILED)
		die(EXIT_LOST, "%s: the device memory cannot be mapped: %s", device->name, strerror(errno));
	return window;
}

static void failed(const struct device *device) __attribute__((noreturn));

static void failed(const struct device *device)
{
	switch (errno) {
	case ETIME:
		die(EXIT_LOST, "%s: the job did not end in %u ms; the kernel module resets the device", device->name,
		    device->timeout_ms);
	case ECANCELED:
		die(EXIT_LOST, "%s: the job was cancelled, because the device was reset", device->name);
	case EIO:
	case ENODEV:
	case ENXIO:
		die(EXIT_LOST, "%s: the device is lost: %s; look at the node's dmesg", device->name, strerror(errno));
	case EINTR:
		die(EXIT_LOST, "%s: interrupted by a signal", device->name);
	default:
		die(EXIT_JOB, "%s: the kernel module refuses the job: %s", device->name, strerror(errno));
	}
}

static void check_status(const struct device *device, uint32_t status)
{
	const char *name = "unknown";

	if (status == MOCK_STATUS_DONE)
		return;
	if (status < sizeof(statuses) / sizeof(*statuses))
		name = statuses[status];
	die(EXIT_JOB, "%s: the job ended with status %u (%s)", device->name, status, name);
}

void run_job(struct device *device, struct mock_ioc_run *job)
{
	job->size = sizeof(*job);
	job->timeout_ms = device->timeout_ms;
	if (ioctl(device->fd, MOCK_IOC_RUN, job))
		failed(device);
	check_status(device, job->status);
}

void submit_job(struct device *device, struct mock_ioc_submit *job)
{
	job->size = sizeof(*job);
	job->timeout_ms = device->timeout_ms;
	if (ioctl(device->fd, MOCK_IOC_SUBMIT, job))
		failed(device);
}

void wait_job(struct device *device, uint64_t job)
{
	struct mock_ioc_wait wait = { .size = sizeof(wait), .timeout_ms = MOCK_MAX_TIMEOUT_MS, .job = job };

	if (ioctl(device->fd, MOCK_IOC_WAIT, &wait))
		failed(device);
	check_status(device, wait.status);
}

uint64_t address(const void *buffer)
{
	return (uintptr_t)buffer;
}

void *allocate(size_t size)
{
	void *buffer = calloc(1, size);

	if (!buffer)
		die(EXIT_FILES, "%zu bytes of memory cannot be allocated", size);
	return buffer;
}
