// SPDX-License-Identifier: GPL-2.0
/* Measures jobs of one kind: by the device, or by the CPU for comparison. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools.h"

static const struct {
	const char *name;
	unsigned int opcode;
} operations[] = {
	{ "copy", MOCK_OP_COPY },
	{ "fill", MOCK_OP_FILL },
	{ "sha256", MOCK_OP_SHA256 },
	{ "identify", MOCK_OP_IDENTIFY },
};

static const uint64_t pattern = 0x6d6f636b2d616363;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static unsigned int opcode_of(const char *name)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
		if (!strcmp(operations[i].name, name))
			return operations[i].opcode;
	}
	die(EXIT_USAGE, "option --operation: expected copy, fill, sha256 or identify, found '%s'", name);
}

static void by_cpu(unsigned int opcode, const uint8_t *source, uint8_t *target, size_t size)
{
	switch (opcode) {
	case MOCK_OP_COPY:
		memcpy(target, source, size);
		break;
	case MOCK_OP_FILL:
		for (size_t done = 0; done < size; done += sizeof(pattern))
			memcpy(target + done, &pattern, size - done < sizeof(pattern) ? size - done : sizeof(pattern));
		break;
	default:
		sha256_by_cpu(source, size, target);
	}
	/* The compiler must not leave out work whose result is not used. */
	__asm__ __volatile__("" : : "r"(target) : "memory");
}

static void start(struct device *device, unsigned int opcode, const uint8_t *source, uint8_t *target, size_t size,
		  uint64_t *job)
{
	struct mock_ioc_submit submit = {
		.opcode = opcode,
		.source = opcode == MOCK_OP_FILL ? 0 : address(source),
		.destination = address(target),
		.length = size,
		.destination_length = opcode == MOCK_OP_COPY || opcode == MOCK_OP_FILL ? size : SHA256_BYTES,
		.argument = opcode == MOCK_OP_FILL ? pattern : 0,
	};

	submit_job(device, &submit);
	*job = submit.job;
}

static int compare(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;

	return difference < 0 ? -1 : difference > 0;
}

/* Latencies in seconds of all jobs; several are in flight, the oldest is waited for. */
static void measure(struct device *device, unsigned int opcode, const struct options *options, double *latencies)
{
	size_t room = options->size > SHA256_BYTES ? options->size : SHA256_BYTES;
	uint64_t *jobs = allocate(options->depth * sizeof(*jobs));
	double *begins = allocate(options->depth * sizeof(*begins));
	uint8_t *source = allocate(room), *targets = allocate(room * options->depth);
	unsigned long started = 0;

	memset(source, 0x5a, room);
	for (unsigned long ended = 0; ended < options->jobs; ended++) {
		unsigned long slot = ended % options->depth;

		while (started < options->jobs && started - ended < options->depth) {
			unsigned long next = started++ % options->depth;

			begins[next] = now();
			if (options->cpu)
				by_cpu(opcode, source, targets + room * next, options->size);
			else
				start(device, opcode, source, targets + room * next, options->size, &jobs[next]);
		}
		if (!options->cpu)
			wait_job(device, jobs[slot]);
		latencies[ended] = now() - begins[slot];
	}
	free(jobs);
	free(begins);
	free(source);
	free(targets);
}

void bench(const struct options *options)
{
	unsigned int opcode = opcode_of(options->operation);
	double *latencies, begin, seconds, minimum, median, slow;
	struct device device = { .name = "cpu" };

	if (opcode == MOCK_OP_IDENTIFY && options->cpu)
		die(EXIT_USAGE, "option --cpu: expected copy, fill or sha256; only the device can identify itself");
	if (opcode == MOCK_OP_IDENTIFY && options->size > NONCE_BYTES)
		die(EXIT_USAGE, "option --size: expected at most %d bytes for identify, found %lu", NONCE_BYTES,
		    options->size);
	if (options->cpu && options->depth > 1)
		die(EXIT_USAGE, "option --depth: expected 1 with --cpu, found %lu", options->depth);
	if (!options->cpu)
		open_device(&device, options);
	latencies = allocate(options->jobs * sizeof(*latencies));
	begin = now();
	measure(&device, opcode, options, latencies);
	seconds = now() - begin;
	qsort(latencies, options->jobs, sizeof(*latencies), compare);
	minimum = latencies[0] * 1e6;
	median = latencies[options->jobs / 2] * 1e6;
	slow = latencies[(options->jobs * 99 + 99) / 100 - 1] * 1e6;
	printf(options->json ?
	       "{\"device\": \"%s\", \"operation\": \"%s\", \"bytes\": %lu, \"jobs\": %lu, \"depth\": %lu, "
	       "\"seconds\": %.6f, \"jobs_per_second\": %.1f, \"bytes_per_second\": %.0f, "
	       "\"latency_us\": {\"minimum\": %.1f, \"median\": %.1f, \"p99\": %.1f}}\n" :
	       "device\t%s\noperation\t%s\nbytes\t%lu\njobs\t%lu\ndepth\t%lu\nseconds\t%.6f\njobs/s\t%.1f\n"
	       "bytes/s\t%.0f\nlatency minimum (us)\t%.1f\nlatency median (us)\t%.1f\nlatency p99 (us)\t%.1f\n",
	       device.name, options->operation, options->size, options->jobs, options->depth, seconds,
	       options->jobs / seconds, options->size * options->jobs / seconds, minimum, median, slow);
	free(latencies);
	finish_output();
}
