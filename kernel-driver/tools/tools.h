/* SPDX-License-Identifier: GPL-2.0 */
/* mock-accel: shared declarations of the command line program. */

#ifndef MOCK_ACCEL_TOOLS_H
#define MOCK_ACCEL_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../uapi/mock_accel_uapi.h"

#define SHA256_BYTES	32
#define NONCE_BYTES	64	/* at most */

/* Exit codes; main.c explains them to users. */
enum {
	EXIT_FILES = 1,
	EXIT_USAGE = 2,
	EXIT_NO_DEVICE = 3,
	EXIT_BUSY = 4,
	EXIT_JOB = 5,
	EXIT_LOST = 6,
};

struct options {
	const char *device;	/* name; NULL: the only one */
	unsigned int timeout_ms;	/* of each job */
	bool window;		/* data goes through the device memory */
	bool verify;		/* compare with the CPU's result */
	bool cpu;		/* let the CPU do the work */
	bool json;
	const char *nonce;	/* hexadecimal; NULL: random */
	const char *operation;
	unsigned long jobs;
	unsigned long size;	/* bytes */
	unsigned long depth;	/* jobs in flight */
};

struct device {
	int fd;
	char name[MOCK_NAME_LENGTH + 1];
	unsigned int timeout_ms;
	struct mock_ioc_info info;
};

/* main.c */
void die(int code, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));
void finish_output(void);

/* device.c */
void list_devices(void);
void open_device(struct device *device, const struct options *options);
void *map_window(struct device *device);
void run_job(struct device *device, struct mock_ioc_run *job);
void submit_job(struct device *device, struct mock_ioc_submit *job);
void wait_job(struct device *device, uint64_t job);
uint64_t address(const void *buffer);
void *allocate(size_t size);

/* jobs.c */
void identify(const struct options *options);
void sha256(const struct options *options, const char *path);
void copy(const struct options *options, const char *from, const char *to);
void dump(const struct options *options);

/* bench.c */
void bench(const struct options *options);

/* sha256.c */
void sha256_by_cpu(const void *data, size_t length, uint8_t digest[SHA256_BYTES]);

#endif
