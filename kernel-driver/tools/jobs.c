// SPDX-License-Identifier: GPL-2.0
/* Single jobs: identify the device, hash a file, copy a file; the device memory. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "tools.h"

static void print_hex(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		printf("%02x", bytes[i]);
}

static size_t nonce_of(const struct options *options, uint8_t nonce[NONCE_BYTES])
{
	const char *text = options->nonce;
	const size_t usual = 16;
	size_t length;

	if (!text) {
		if (getrandom(nonce, usual, 0) != (ssize_t)usual)
			die(EXIT_FILES, "no random numbers: %s", strerror(errno));
		return usual;
	}
	length = strlen(text);
	if (!length || length % 2 || length > 2 * NONCE_BYTES || strspn(text, "0123456789abcdefABCDEF") != length)
		die(EXIT_USAGE, "option --nonce: expected 1 to %d bytes, two hexadecimal digits each, found '%s'",
		    NONCE_BYTES, text);
	for (size_t i = 0; i < length / 2; i++) {
		char digits[3] = { text[2 * i], text[2 * i + 1], '\0' };

		nonce[i] = strtoul(digits, NULL, 16);
	}
	return length / 2;
}

void identify(const struct options *options)
{
	uint8_t nonce[NONCE_BYTES] = { 0 }, signature[SHA256_BYTES] = { 0 };
	size_t length = nonce_of(options, nonce);
	struct mock_ioc_run job = {
		.opcode = MOCK_OP_IDENTIFY,
		.source = address(nonce),
		.destination = address(signature),
		.length = length,
		.destination_length = sizeof(signature),
	};
	struct device device;

	open_device(&device, options);
	run_job(&device, &job);
	printf("device\t%s\nuuid\t%.*s\nnonce\t", device.name, MOCK_UUID_LENGTH, device.info.uuid);
	print_hex(nonce, length);
	printf("\nsignature\t");
	print_hex(signature, sizeof(signature));
	printf("\n");
	finish_output();
}

static FILE *opened(const char *path, const char *mode, FILE *standard)
{
	FILE *file = strcmp(path, "-") ? fopen(path, mode) : standard;

	if (!file)
		die(EXIT_FILES, "%s cannot be opened: %s", path, strerror(errno));
	return file;
}

static size_t filled(FILE *file, const char *path, void *buffer, size_t size)
{
	size_t length = fread(buffer, 1, size, file);

	if (ferror(file))
		die(EXIT_FILES, "%s cannot be read: %s", path, strerror(errno));
	return length;
}

void sha256(const struct options *options, const char *path)
{
	uint8_t digest[SHA256_BYTES] = { 0 }, expected[SHA256_BYTES];
	struct mock_ioc_run job = {
		.opcode = MOCK_OP_SHA256,
		.destination = address(digest),
		.destination_length = sizeof(digest),
	};
	FILE *file = opened(path, "re", stdin);
	uint8_t *data = allocate(MOCK_MAX_LENGTH + 1);
	size_t length = filled(file, path, data, MOCK_MAX_LENGTH + 1);
	struct device device;

	if (!length || length > MOCK_MAX_LENGTH)
		die(EXIT_FILES, "%s: expected 1 to %d bytes, as much as a job may have, found %s", path,
		    MOCK_MAX_LENGTH, length ? "more" : "none");
	open_device(&device, options);
	job.length = length;
	job.source = address(data);
	if (options->window) {
		if (length > device.info.window_limit)
			die(EXIT_FILES, "%s: expected at most %llu bytes, the memory of %s, found %zu", path,
			    (unsigned long long)device.info.window_limit, device.name, length);
		memcpy(map_window(&device), data, length);
		job.source = 0;
		job.flags = MOCK_JOB_SOURCE_WINDOW;
	}
	run_job(&device, &job);
	if (options->verify) {
		sha256_by_cpu(data, length, expected);
		if (memcmp(digest, expected, sizeof(digest)))
			die(EXIT_JOB, "%s: the device's SHA-256 of %s differs from the CPU's", device.name, path);
	}
	print_hex(digest, sizeof(digest));
	printf("  %s\n", path);
	finish_output();
}

void copy(const struct options *options, const char *from, const char *to)
{
	size_t step = 1 << 20, length;
	FILE *source = opened(from, "re", stdin), *target;
	uint8_t *in, *out;
	struct device device;

	open_device(&device, options);
	if (options->window && step > device.info.window_limit)
		step = device.info.window_limit;
	in = allocate(step);
	out = allocate(step);
	target = opened(to, "we", stdout);
	while ((length = filled(source, from, in, step))) {
		struct mock_ioc_run job = {
			.opcode = MOCK_OP_COPY,
			.source = address(in),
			.destination = address(out),
			.length = length,
			.destination_length = length,
		};

		if (options->window) {
			job.destination = 0;
			job.flags = MOCK_JOB_DESTINATION_WINDOW;
			run_job(&device, &job);
			job.source = 0;
			job.destination = address(out);
			job.flags = MOCK_JOB_SOURCE_WINDOW;
		}
		run_job(&device, &job);
		if (options->verify && memcmp(in, out, length))
			die(EXIT_JOB, "%s: the copy differs from %s", device.name, from);
		if (fwrite(out, 1, length, target) != length)
			die(EXIT_FILES, "%s cannot be written: %s", to, strerror(errno));
	}
	if (fflush(target))
		die(EXIT_FILES, "%s cannot be written: %s", to, strerror(errno));
}

/* As far as the window's limit lets this process map it. */
void dump(const struct options *options)
{
	struct device device;

	open_device(&device, options);
	fwrite(map_window(&device), 1, device.info.window_limit, stdout);
	finish_output();
}
