// SPDX-License-Identifier: GPL-2.0
/*
 * Stands in for the kernel module: preloaded, it answers the ioctls on a regular file, whose content is the device
 * memory. FAKE_ERRNO fails each job with this errno, FAKE_STATUS ends each with this status, FAKE_VERSION is the
 * interface's version, FAKE_WRONG changes the first byte of each result.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../kernel-driver/tools/tools.h"

static unsigned int jobs;

static int number(const char *variable, int usual)
{
	const char *text = getenv(variable);

	return text ? atoi(text) : usual;
}

static uint32_t run(int fd, const struct mock_ioc_submit *job)
{
	size_t written = job->opcode == MOCK_OP_COPY || job->opcode == MOCK_OP_FILL ? job->length : SHA256_BYTES;
	uint8_t *source = calloc(1, job->length), *result = calloc(1, written);

	if (job->flags & MOCK_JOB_SOURCE_WINDOW) {
		if (pread(fd, source, job->length, job->source) != (ssize_t)job->length)
			return MOCK_STATUS_WINDOW_RANGE;
	} else if (job->source) {
		memcpy(source, (void *)(uintptr_t)job->source, job->length);
	}
	if (job->destination_length < written)
		return MOCK_STATUS_BAD_LENGTH;
	if (job->opcode == MOCK_OP_COPY)
		memcpy(result, source, written);
	else if (job->opcode != MOCK_OP_FILL)
		sha256_by_cpu(source, job->length, result);
	if (getenv("FAKE_WRONG"))
		result[0] ^= 1;
	if (job->flags & MOCK_JOB_DESTINATION_WINDOW) {
		if (pwrite(fd, result, written, job->destination) != (ssize_t)written)
			return MOCK_STATUS_WINDOW_RANGE;
	} else {
		memcpy((void *)(uintptr_t)job->destination, result, written);
	}
	free(source);
	free(result);
	return MOCK_STATUS_DONE;
}

static int answer(int fd, unsigned long request, void *argument)
{
	struct mock_ioc_info *info = argument;
	struct mock_ioc_submit *submit = argument;
	struct mock_ioc_wait *wait = argument;
	struct mock_ioc_run *job = argument;
	int status = number("FAKE_STATUS", MOCK_STATUS_DONE);

	if (request == MOCK_IOC_INFO) {
		info->version = number("FAKE_VERSION", MOCK_UAPI_VERSION);
		memcpy(info->uuid, "NODE1-NUMA0-PF-1", MOCK_UUID_LENGTH);
		info->window_size = info->window_limit = lseek(fd, 0, SEEK_END);
		return 0;
	}
	errno = number("FAKE_ERRNO", 0);
	if (errno)
		return -1;
	if (request == MOCK_IOC_RUN) {
		/* Its first fields are those of the other structure. */
		job->status = status == MOCK_STATUS_DONE ? run(fd, argument) : (uint32_t)status;
	} else if (request == MOCK_IOC_SUBMIT) {
		run(fd, submit);
		submit->job = ++jobs;
	} else if (request == MOCK_IOC_WAIT) {
		wait->status = wait->job && wait->job <= jobs ? (uint32_t)status : 0;
	}
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list values;
	void *argument;

	va_start(values, request);
	argument = va_arg(values, void *);
	va_end(values);
	return answer(fd, request, argument);
}
