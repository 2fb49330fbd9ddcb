/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Interface of /dev/mock-accel/<name>, version 1.
 *
 * Set "size" of a structure to its sizeof. A kernel module with a shorter
 * structure accepts a longer one if the rest is zero (otherwise E2BIG); a
 * structure that is shorter than that of version 1 gives EINVAL.
 */

#ifndef MOCK_ACCEL_UAPI_H
#define MOCK_ACCEL_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MOCK_UAPI_VERSION		1

#define MOCK_UUID_LENGTH		16
#define MOCK_NAME_LENGTH		32
#define MOCK_MAX_LENGTH			(16 << 20)
#define MOCK_MAX_TIMEOUT_MS		60000

/* mode */
#define MOCK_MODE_EXCLUSIVE		0
#define MOCK_MODE_SHARED		1

/* flags of struct mock_ioc_info */
#define MOCK_INFO_VF			(1 << 0)
#define MOCK_INFO_FIRMWARE		(1 << 1)	/* loaded: the device accepts jobs */

/* opcode */
#define MOCK_OP_COPY			1
#define MOCK_OP_FILL			2	/* with argument, 8 bytes, repeated */
#define MOCK_OP_SHA256			3	/* writes 32 bytes */
#define MOCK_OP_IDENTIFY		4	/* nonce of 1 to 64 bytes; writes 32 bytes */

/* flags of a job: source or destination is an offset in the window */
#define MOCK_JOB_SOURCE_WINDOW		(1 << 0)
#define MOCK_JOB_DESTINATION_WINDOW	(1 << 1)

/* status of a job */
#define MOCK_STATUS_DONE		1
#define MOCK_STATUS_BAD_OPCODE		2
#define MOCK_STATUS_BAD_FLAGS		3
#define MOCK_STATUS_BAD_LENGTH		4
#define MOCK_STATUS_SOURCE_FAULT	5
#define MOCK_STATUS_DESTINATION_FAULT	6
#define MOCK_STATUS_BAD_LIST		7
#define MOCK_STATUS_WINDOW_RANGE	8
#define MOCK_STATUS_LIMIT		9
#define MOCK_STATUS_DEVICE_ERROR	10

struct mock_ioc_info {
	__u32 size;
	__u32 version;			/* MOCK_UAPI_VERSION of the module */
	char uuid[MOCK_UUID_LENGTH];	/* without NUL if it has 16 characters */
	char name[MOCK_NAME_LENGTH];
	__u64 window_size;		/* bytes */
	__u64 window_limit;		/* bytes that can be mapped and used by jobs */
	__u32 mode;
	__u32 job_limit;		/* jobs that may wait at once */
	__u32 firmware_version;		/* major << 16 | minor; 0: none */
	__u32 flags;
};

struct mock_ioc_submit {
	__u32 size;
	__u32 opcode;
	__u32 flags;
	__u32 timeout_ms;		/* of the job: 1 to MOCK_MAX_TIMEOUT_MS */
	__u64 source;			/* address, or offset in the window */
	__u64 destination;
	__u64 length;			/* bytes of the source; FILL: of the destination */
	__u64 destination_length;	/* bytes that the job may write */
	__u64 argument;
	__u64 job;			/* out: number, for MOCK_IOC_WAIT */
};

struct mock_ioc_wait {
	__u32 size;
	__u32 timeout_ms;		/* of the wait: 1 to MOCK_MAX_TIMEOUT_MS */
	__u64 job;
	__u32 status;			/* out */
	__u32 reserved;			/* 0 */
	__u64 bytes;			/* out: written to the destination */
};

struct mock_ioc_run {
	__u32 size;
	__u32 opcode;
	__u32 flags;
	__u32 timeout_ms;
	__u64 source;
	__u64 destination;
	__u64 length;
	__u64 destination_length;
	__u64 argument;
	__u64 job;			/* out */
	__u32 status;			/* out */
	__u32 reserved;			/* 0 */
	__u64 bytes;			/* out */
};

#define MOCK_IOC_INFO		_IOWR('M', 0, struct mock_ioc_info)
#define MOCK_IOC_SUBMIT		_IOWR('M', 1, struct mock_ioc_submit)
#define MOCK_IOC_WAIT		_IOWR('M', 2, struct mock_ioc_wait)
#define MOCK_IOC_RUN		_IOWR('M', 3, struct mock_ioc_run)

#endif
