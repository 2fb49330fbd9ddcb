// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: uses /dev/mock-accel/<name> in a guest, which has no C library.
 *
 * job FILE [nth N] COMMAND [NUMBER...]; prints the result, or "error N" (errno)
 * and ends with 1. Buffers begin at an odd address, so that jobs have lists.
 *
 * With "nth N", the Nth thing that can fail in the kernel from then on does, an
 * allocation or a copy (Documentation/fault-injection). At the end it prints
 * "left M": 0 if that has happened, else less than N did what can fail.
 */

#include <asm/unistd.h>

typedef unsigned int __u32;
typedef unsigned long long __u64;
#define _LINUX_TYPES_H
#define _UAPI_LINUX_TYPES_H
#include "mock_accel_uapi.h"

#define O_RDONLY	0
#define O_WRONLY	1
#define O_RDWR		2
#define O_NONBLOCK	04000
#define PROT_RW		3
#define MAP_SHARED	1
#define MAP_ANONYMOUS	0x22	/* and private */
#define POLL_IN		1
#define EINTR		4
#define MEGABYTE	(1UL << 20)

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile ("syscall"
			  : "=a"(result)
			  : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			  : "rcx", "r11", "memory");
	return result;
}

static int nth_file = -1;

static unsigned long length_of(const char *text)
{
	unsigned long length = 0;

	while (text[length])
		length++;
	return length;
}

static void fail_nth(const char *nth)
{
	nth_file = call(__NR_open, (long)"/proc/self/fail-nth", O_RDWR, 0, 0, 0, 0);
	call(__NR_write, nth_file, (long)nth, length_of(nth), 0, 0, 0);
}

/* Reading the number and ending it can fail, too, but only once. */
static void say_left(void)
{
	char left[16];
	long length;

	do
		length = call(__NR_pread64, nth_file, (long)left, sizeof(left), 0, 0, 0);
	while (length < 0);
	while (call(__NR_pwrite64, nth_file, (long)"0", 1, 0, 0, 0) < 0)
		;
	call(__NR_write, 1, (long)"left ", 5, 0, 0, 0);
	call(__NR_write, 1, (long)left, length, 0, 0, 0);
}

static void quit(int code)
{
	if (nth_file >= 0)
		say_left();
	for (;;)
		call(__NR_exit_group, code, 0, 0, 0, 0, 0);
}

static void say(const char *text)
{
	call(__NR_write, 1, (long)text, length_of(text), 0, 0, 0);
}

static void say_number(__u64 number)
{
	char text[24], *first = text + sizeof(text) - 1;

	*first = 0;
	do {
		*--first = '0' + number % 10;
		number /= 10;
	} while (number);
	say(first);
	say("\n");
}

static void say_hex(const unsigned char *bytes, unsigned int count)
{
	static const char digits[] = "0123456789abcdef";
	char text[3] = "";

	while (count--) {
		text[0] = digits[*bytes >> 4];
		text[1] = digits[*bytes++ & 15];
		say(text);
	}
	say("\n");
}

static long check(long result)
{
	if (result >= 0)
		return result;
	say("error ");
	say_number(-result);
	quit(1);
	return 0;
}

static __u64 parse(const char *text)
{
	__u64 number = 0;

	while (*text)
		number = number * 10 + *text++ - '0';
	return number;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

static long control(int file, unsigned long request, void *argument)
{
	return call(__NR_ioctl, file, request, (long)argument, 0, 0, 0);
}

static unsigned char *memory(unsigned long size)
{
	return (void *)check(call(__NR_mmap, 0, size, PROT_RW, MAP_ANONYMOUS, -1, 0));
}

static unsigned char *window(int file, unsigned long size)
{
	return (void *)check(call(__NR_mmap, 0, size, PROT_RW, MAP_SHARED, file, 0));
}

static struct mock_ioc_run job(__u32 opcode, const void *source, void *destination, __u64 length,
			       __u64 destination_length, __u32 timeout_ms)
{
	struct mock_ioc_run run = {
		.size = sizeof(run),
		.opcode = opcode,
		.timeout_ms = timeout_ms,
		.source = (unsigned long)source,
		.destination = (unsigned long)destination,
		.length = length,
		.destination_length = destination_length,
	};

	return run;
}

static void finish(int file, struct mock_ioc_run *run)
{
	check(control(file, MOCK_IOC_RUN, run));
	if (run->status == MOCK_STATUS_DONE)
		return;
	say("status ");
	say_number(run->status);
	quit(1);
}

static void info(int file)
{
	struct mock_ioc_info info = { .size = sizeof(info) };
	char uuid[MOCK_UUID_LENGTH + 1] = "";
	int i;

	check(control(file, MOCK_IOC_INFO, &info));
	for (i = 0; i < MOCK_UUID_LENGTH; i++)
		uuid[i] = info.uuid[i];
	say(info.name);
	say(" ");
	say(uuid);
	say("\n");
	say_number(info.window_size);
	say_number(info.window_limit);
	say_number(info.mode);
	say_number(info.job_limit);
	say_number(info.firmware_version);
	say_number(info.flags);
}

static void digest(int file, __u32 opcode, unsigned long length)
{
	unsigned char *source = memory(length + 8) + 3, result[32];
	struct mock_ioc_run run;
	unsigned long i;

	for (i = 0; i < length; i++)
		source[i] = i % 251;
	run = job(opcode, source, result, length, sizeof(result), 20000);
	finish(file, &run);
	say_hex(result, sizeof(result));
}

static void copy(int file, unsigned long length, __u32 timeout_ms)
{
	unsigned char *source = memory(length + 16) + 3, *to = memory(length + 16) + 5;
	struct mock_ioc_run run;
	unsigned long i;

	for (i = 0; i < length; i++)
		source[i] = i % 251;
	run = job(MOCK_OP_COPY, source, to, length, length, timeout_ms);
	finish(file, &run);
	for (i = 0; i < length + 8; i++)
		if (to[i] != (i < length ? source[i] : 0)) {
			say("wrong byte ");
			say_number(i);
			quit(1);
		}
	say_number(run.bytes);
}

/* The window by the device, and mapped: both have the same bytes. */
static void use_window(int file, unsigned long size)
{
	unsigned char *mapped = window(file, size), *to = memory(size);
	struct mock_ioc_run run;
	unsigned long i;

	for (i = 0; i < size; i++)
		if (mapped[i]) {
			say("not empty\n");
			quit(1);
		}
	run = job(MOCK_OP_FILL, 0, 0, size, size, 20000);
	run.flags = MOCK_JOB_DESTINATION_WINDOW;
	run.argument = 0x0807060504030201ULL;
	finish(file, &run);
	mapped[0] = 0xaa;
	run = job(MOCK_OP_COPY, 0, to, size, size, 20000);
	run.flags = MOCK_JOB_SOURCE_WINDOW;
	finish(file, &run);
	for (i = 0; i < size; i++)
		if (to[i] != mapped[i] || (i && to[i] != i % 8 + 1)) {
			say("wrong byte ");
			say_number(i);
			quit(1);
		}
	say("window\n");
}

static void fill(int file, unsigned long offset, unsigned long length)
{
	struct mock_ioc_run run = job(MOCK_OP_FILL, 0, (void *)offset, length, length, 20000);

	run.flags = MOCK_JOB_DESTINATION_WINDOW;
	finish(file, &run);
	say_number(run.bytes);
}

/* A job and a mapping when the file @path exists: how they fail. */
static void after(int file, const char *path)
{
	struct mock_ioc_run run = job(MOCK_OP_FILL, 0, 0, 8, 8, 20000);

	*window(file, 4096) = 0x55;
	say("mapped\n");
	while (call(__NR_open, (long)path, O_RDWR, 0, 0, 0, 0) < 0)
		call(__NR_poll, 0, 0, 50, 0, 0, 0);
	run.flags = MOCK_JOB_DESTINATION_WINDOW;
	say("error ");
	say_number(-control(file, MOCK_IOC_RUN, &run));
	window(file, 4096);
}

/* Many jobs at once, then poll() and MOCK_IOC_WAIT for each. */
static void many(int file, unsigned int count, unsigned long length)
{
	unsigned char *source = memory(length), *to = memory(length);
	struct { int fd; short events, got; } poll = { file, POLL_IN, 0 };
	struct mock_ioc_run run = job(MOCK_OP_COPY, source, to, length, length, 20000);
	struct mock_ioc_submit *submit = (void *)&run;
	struct mock_ioc_wait wait = { .size = sizeof(wait), .timeout_ms = 20000 };
	__u64 first = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		submit->size = sizeof(*submit);
		check(control(file, MOCK_IOC_SUBMIT, submit));
		if (!first)
			first = submit->job;
	}
	check(call(__NR_poll, (long)&poll, 1, 20000, 0, 0, 0));
	if (!(poll.got & POLL_IN))
		say("no POLLIN\n");
	for (i = 0; i < count; i++) {
		wait.job = first + i;
		check(control(file, MOCK_IOC_WAIT, &wait));
		if (wait.status != MOCK_STATUS_DONE) {
			say("status ");
			say_number(wait.status);
			quit(1);
		}
	}
	say_number(count);
}

/* Submit a job and hold the file until a signal, or the end of the process. */
static void hold(int file, unsigned int jobs, __u32 timeout_ms)
{
	unsigned char *source = memory(MEGABYTE), *to = memory(MEGABYTE);
	struct mock_ioc_run run = job(MOCK_OP_COPY, source, to, MEGABYTE, MEGABYTE, timeout_ms);
	struct mock_ioc_submit *submit = (void *)&run;

	*window(file, 4096) = 0x55;
	submit->size = sizeof(*submit);
	while (jobs--)
		check(control(file, MOCK_IOC_SUBMIT, submit));
	say("held\n");
	call(__NR_pause, 0, 0, 0, 0, 0, 0);
}

/* Structures whose size is wrong, and values that are. */
static void refused(int file)
{
	unsigned char buffer[64] = "";
	struct {
		struct mock_ioc_info info;
		__u32 more[2];
	} longer = { .info.size = sizeof(longer) };
	struct mock_ioc_run run;

	say_number(-control(file, MOCK_IOC_INFO, &longer));
	longer.info.size = sizeof(longer);
	longer.more[1] = 1;
	say_number(-control(file, MOCK_IOC_INFO, &longer));
	longer.info.size = sizeof(longer.info) - 1;
	say_number(-control(file, MOCK_IOC_INFO, &longer));
	run = job(9, buffer, buffer, 1, 32, 100);
	say_number(-control(file, MOCK_IOC_RUN, &run));
	run = job(MOCK_OP_SHA256, buffer, buffer, 0, 32, 100);
	say_number(-control(file, MOCK_IOC_RUN, &run));
	run = job(MOCK_OP_SHA256, buffer, buffer, 1, 31, 100);
	say_number(-control(file, MOCK_IOC_RUN, &run));
	run = job(MOCK_OP_SHA256, buffer, buffer, 1, 32, 60001);
	say_number(-control(file, MOCK_IOC_RUN, &run));
	run = job(MOCK_OP_SHA256, (void *)8, buffer, 1, 32, 100);
	say_number(-control(file, MOCK_IOC_RUN, &run));
	run = job(MOCK_OP_SHA256, buffer, (void *)8, 1, 32, 100);
	say_number(-control(file, MOCK_IOC_RUN, &run));
	say_number(-control(file, MOCK_IOC_INFO + 77, &longer));
}

/* FILE is an attribute or a module, not a device. */
static void use_file(const char *path, const char *command, const char *value)
{
	int file;

	if (same(command, "load")) {
		file = check(call(__NR_open, (long)path, O_RDONLY, 0, 0, 0, 0));
		check(call(__NR_finit_module, file, (long)"", 0, 0, 0, 0));
	} else {
		file = check(call(__NR_open, (long)path, O_WRONLY, 0, 0, 0, 0));
		check(call(__NR_write, file, (long)value, length_of(value), 0, 0, 0));
	}
}

__attribute__((used)) static void start(long *stack)
{
	char **argv = (char **)(stack + 1);
	long argc = *stack;
	const char *path = argc > 1 ? argv[1] : "", *command, *value;
	__u64 first, second;
	int file;

	if (argc > 4 && same(argv[2], "nth")) {
		fail_nth(argv[3]);
		argv += 2;
		argc -= 2;
	}
	if (argc < 3)
		quit(2);
	command = argv[2];
	value = argc > 3 ? argv[3] : "";
	if (same(command, "write") || same(command, "load")) {
		use_file(path, command, value);
		quit(0);
	}
	first = argc > 3 ? parse(argv[3]) : 0;
	second = argc > 4 ? parse(argv[4]) : 0;
	file = check(call(__NR_open, (long)path, O_RDWR, 0, 0, 0, 0));
	if (same(command, "info"))
		info(file);
	else if (same(command, "sha256"))
		digest(file, MOCK_OP_SHA256, first);
	else if (same(command, "identify"))
		digest(file, MOCK_OP_IDENTIFY, first);
	else if (same(command, "copy"))
		copy(file, first, second ? second : 20000);
	else if (same(command, "window"))
		use_window(file, first);
	else if (same(command, "map"))
		*window(file, first) = 1;
	else if (same(command, "fill"))
		fill(file, first, second);
	else if (same(command, "after") && argc > 3)
		after(file, argv[3]);
	else if (same(command, "many"))
		many(file, first, second);
	else if (same(command, "hold"))
		hold(file, first, second);
	else if (same(command, "refused"))
		refused(file);
	else
		quit(2);
	quit(0);
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tandq $-16, %rsp\n\tcall start\n");

/* The compiler may call these. */
void *memset(void *to, int value, unsigned long count)
{
	unsigned char *byte = to;

	while (count--)
		*byte++ = value;
	return to;
}

void *memcpy(void *to, const void *from, unsigned long count)
{
	unsigned char *target = to;
	const unsigned char *source = from;

	while (count--)
		*target++ = *source++;
	return to;
}
