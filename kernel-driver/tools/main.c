// SPDX-License-Identifier: GPL-2.0
/* mock-accel: use mock accelerators from the command line. */

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools.h"

static const char usage[] =
	"Usage: mock-accel COMMAND [OPTION]... [FILE]...\n"
	"\n"
	"Commands:\n"
	"  list               list the devices, with what the kernel module shows of them\n"
	"  identify           let the device sign a nonce with its key: HMAC-SHA-256\n"
	"  sha256 FILE        let the device hash a file of at most 16 MiB; output as of sha256sum\n"
	"  copy FROM TO       let the device copy a file\n"
	"  dump               write the device memory to standard output\n"
	"  bench              measure jobs: rate, throughput, latency\n"
	"'mock-accel COMMAND --help' describes the options of a command. A FILE '-' is standard input or output.\n"
	"\n"
	"Exit codes:\n"
	"  0  success\n"
	"  1  a file cannot be read or written, or has the wrong size\n"
	"  2  wrong usage\n"
	"  3  no device, or it cannot be opened\n"
	"  4  the device is open in another process\n"
	"  5  the job ended with an error, or its result is wrong\n"
	"  6  the job timed out or was cancelled, or the device is lost\n"
	"\n"
	"Environment:\n"
	"  MOCK_ACCEL_CLASS_FOLDER  folder of the devices in sysfs (/sys/class/mock-accel)\n"
	"  MOCK_ACCEL_NODE_FOLDER   folder of the device nodes (/dev/mock-accel)\n";

static const struct option long_options[] = {
	{ "help", no_argument, NULL, 'h' },
	{ "device", required_argument, NULL, 'd' },
	{ "timeout", required_argument, NULL, 't' },
	{ "window", no_argument, NULL, 'w' },
	{ "verify", no_argument, NULL, 'v' },
	{ "nonce", required_argument, NULL, 'n' },
	{ "operation", required_argument, NULL, 'o' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "size", required_argument, NULL, 's' },
	{ "depth", required_argument, NULL, 'q' },
	{ "cpu", no_argument, NULL, 'c' },
	{ "json", no_argument, NULL, 'J' },
	{ NULL, 0, NULL, 0 },
};

#define SHORT_OPTIONS	"+:hd:t:wvn:o:j:s:"

static const struct {
	char letter;
	const char *text;
} descriptions[] = {
	{ 'h', "  -h, --help            show this help\n" },
	{ 'd', "  -d, --device NAME     device, like mock0 (default: the only one)\n" },
	{ 't', "  -t, --timeout MS      limit for each job, 1 to 60000 milliseconds (default 10000)\n" },
	{ 'w', "  -w, --window          let the data pass through the device memory\n" },
	{ 'v', "  -v, --verify          compare the result with that of the CPU\n" },
	{ 'n', "  -n, --nonce HEX       nonce of 1 to 64 bytes in hexadecimal digits (default: 16 random bytes)\n" },
	{ 'o', "  -o, --operation NAME  copy, fill, sha256 or identify (default copy)\n" },
	{ 'j', "  -j, --jobs NUMBER     number of jobs, 1 to 1000000 (default 1000)\n" },
	{ 's', "  -s, --size BYTES      bytes of each job, 1 to 16M, with K or M for 1024 or 1048576 (default 4K)\n" },
	{ 'q', "      --depth NUMBER    jobs in flight, 1 to 1023 (default 1)\n" },
	{ 'c', "      --cpu             let the CPU do the same work, for comparison\n" },
	{ 'J', "      --json            print JSON\n" },
};

static const struct command {
	const char *name;
	const char *arguments;
	int count;	/* of arguments */
	const char *options;	/* letters */
} commands[] = {
	{ "list", "", 0, "h" },
	{ "identify", "", 0, "hdtn" },
	{ "sha256", " FILE", 1, "hdtwv" },
	{ "copy", " FROM TO", 2, "hdtwv" },
	{ "dump", "", 0, "hd" },
	{ "bench", "", 0, "hdtojsqcJ" },
};

void die(int code, const char *format, ...)
{
	va_list values;

	fflush(stdout);
	fprintf(stderr, "mock-accel: ");
	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
	fprintf(stderr, "\n");
	exit(code);
}

/* A full disk or a closed pipe is an error, too. */
void finish_output(void)
{
	if (fflush(stdout) || ferror(stdout))
		die(EXIT_FILES, "standard output cannot be written: %s", strerror(errno));
}

static const char *name_of(int letter)
{
	for (const struct option *option = long_options; option->name; option++) {
		if (option->val == letter)
			return option->name;
	}
	return "?";
}

static unsigned long number(int letter, const char *text, unsigned long most, bool units)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (units && end != text && (*end == 'K' || *end == 'M')) {
		unsigned long unit = *end == 'K' ? 1024 : 1024 * 1024;

		value = value > most / unit ? most + 1 : value * unit;
		end++;
	}
	/* strtoul accepts a sign and blanks. */
	if (*text < '0' || *text > '9' || *end || errno || !value || value > most)
		die(EXIT_USAGE, "option --%s: expected a number from 1 to %lu%s, found '%s'", name_of(letter), most,
		    units ? ", maybe with K or M" : "", text);
	return value;
}

static void help(const struct command *command)
{
	printf("Usage: mock-accel %s [OPTION]...%s\n\nOptions:\n", command->name, command->arguments);
	for (size_t i = 0; i < sizeof(descriptions) / sizeof(*descriptions); i++) {
		if (strchr(command->options, descriptions[i].letter))
			printf("%s", descriptions[i].text);
	}
	finish_output();
	exit(EXIT_SUCCESS);
}

static void set(struct options *options, int letter, const char *value)
{
	switch (letter) {
	case 'd':
		options->device = value;
		break;
	case 't':
		options->timeout_ms = number(letter, value, MOCK_MAX_TIMEOUT_MS, false);
		break;
	case 'w':
		options->window = true;
		break;
	case 'v':
		options->verify = true;
		break;
	case 'n':
		options->nonce = value;
		break;
	case 'o':
		options->operation = value;
		break;
	case 'j':
		options->jobs = number(letter, value, 1000000, false);
		break;
	case 's':
		options->size = number(letter, value, MOCK_MAX_LENGTH, true);
		break;
	case 'q':
		options->depth = number(letter, value, 1023, false);
		break;
	case 'c':
		options->cpu = true;
		break;
	case 'J':
		options->json = true;
		break;
	}
}

static void parse(const struct command *command, int argc, char **argv, struct options *options)
{
	int letter;

	opterr = 0;
	optind = 1;
	while ((letter = getopt_long(argc, argv, SHORT_OPTIONS, long_options, NULL)) != -1) {
		if (letter == ':')
			die(EXIT_USAGE, "option %s: expected a value", argv[optind - 1]);
		if (letter == '?' || !strchr(command->options, letter))
			die(EXIT_USAGE, "unknown option %s; see: mock-accel %s --help",
			    letter == '?' ? argv[optind - 1] : name_of(letter), command->name);
		if (letter == 'h')
			help(command);
		set(options, letter, optarg);
	}
	if (argc - optind != command->count)
		die(EXIT_USAGE, "%s: expected %d arguments%s, found %d; see: mock-accel %s --help", command->name,
		    command->count, command->arguments, argc - optind, command->name);
}

int main(int argc, char **argv)
{
	struct options options = {
		.timeout_ms = 10000, .operation = "copy", .jobs = 1000, .size = 4096, .depth = 1,
	};
	const struct command *command = commands;
	const struct command *const end = commands + sizeof(commands) / sizeof(*commands);

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		printf("%s", usage);
		finish_output();
		return EXIT_SUCCESS;
	}
	if (argc < 2)
		die(EXIT_USAGE, "expected a command; see: mock-accel --help");
	while (command < end && strcmp(command->name, argv[1]))
		command++;
	if (command == end)
		die(EXIT_USAGE, "unknown command '%s'; see: mock-accel --help", argv[1]);
	parse(command, argc - 1, argv + 1, &options);
	argv += argc - command->count;
	if (!strcmp(command->name, "list"))
		list_devices();
	else if (!strcmp(command->name, "identify"))
		identify(&options);
	else if (!strcmp(command->name, "sha256"))
		sha256(&options, argv[0]);
	else if (!strcmp(command->name, "copy"))
		copy(&options, argv[0], argv[1]);
	else if (!strcmp(command->name, "dump"))
		dump(&options);
	else
		bench(&options);
	return EXIT_SUCCESS;
}
