/* SPDX-License-Identifier: GPL-2.0 */
/* Jobs: the command ring, its descriptors, pinned memory and open files. */

#ifndef MOCK_JOBS_H
#define MOCK_JOBS_H

#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/scatterlist.h>

#include "mock_accel.h"
#include "uapi/mock_accel_uapi.h"

#define MOCK_RING_SIZE		256
/* Memory that the jobs of a device may pin, in bytes. */
#define MOCK_MAX_PINNED		(64 << 20)
/* Jobs of an open file, those included that were not waited for. */
#define MOCK_MAX_FILE_JOBS	1024

/* Flags of a descriptor. */
#define MOCK_DESC_INTERRUPT		BIT(0)
#define MOCK_DESC_SOURCE_WINDOW		BIT(1)
#define MOCK_DESC_DESTINATION_WINDOW	BIT(2)
#define MOCK_DESC_SOURCE_LIST		BIT(3)
#define MOCK_DESC_DESTINATION_LIST	BIT(4)

struct mock_descriptor {
	__le16 opcode;
	__le16 flags;
	__le32 reserved;
	__le64 source;
	__le64 destination;
	__le64 length;
	__le64 argument;
	__le32 source_segments;
	__le32 destination_segments;
	__le32 status;		/* written last by the device */
	__le32 reserved2;
	__le64 bytes;
};

static_assert(sizeof(struct mock_descriptor) == 64);

struct mock_segment {
	__le64 address;
	__le32 length;
	__le32 reserved;
};

/* User memory, pinned and mapped for the device. */
struct mock_buffer {
	struct page **pages;
	unsigned int count;
	struct sg_table table;
	enum dma_data_direction direction;
	bool mapped;
	struct mock_segment *segments;	/* NULL for a single segment */
	dma_addr_t address;		/* of the segments, or of the only one */
	size_t size;			/* of the segments */
};

struct mock_job {
	refcount_t ref;			/* of the queue, of the file, and of waiters */
	u64 number;
	struct mock_file *file;		/* NULL after it was closed */
	struct mock_share *share;	/* while it is in the queue; NULL: the whole device */
	struct list_head in_queue;	/* empty when it has ended */
	struct list_head in_file;
	struct mock_descriptor descriptor;
	struct mock_buffer source;
	struct mock_buffer destination;
	size_t pinned;			/* bytes */
	unsigned int slot;		/* in the ring */
	unsigned long deadline;		/* jiffies */
	bool done;
	int error;			/* why it has no status */
	u32 status;
	u64 bytes;
};

/* A UUID and the terminating NUL. */
#define MOCK_SHARE_ID_LENGTH	37

/* A part of a device for one user. jobs_lock of the device protects what is not constant. */
struct mock_share {
	struct kref ref;		/* of the device, open files and jobs */
	struct list_head node;
	struct mock_accel *mock;	/* constant; valid until it is removed */
	char id[MOCK_SHARE_ID_LENGTH];	/* constant */
	int minor;			/* constant */
	u32 offset;			/* in the window; constant */
	u32 size;			/* constant */
	u32 job_limit;			/* constant; 0: none */
	unsigned int queued;		/* jobs in the ring */
	struct rw_semaphore present;	/* held by page faults, which do not take jobs_lock */
	bool removed;			/* written with both locks */
};

struct mock_file {
	struct mock_accel *mock;
	struct mock_share *share;	/* NULL: the whole device */
	struct file *filp;
	struct list_head node;
	struct list_head jobs;
	unsigned int count;		/* of jobs */
	unsigned int done;		/* ended, but not waited for */
};

/* buffers.c */
int mock_buffer_pin(struct device *dev, struct mock_buffer *buffer, u64 start, size_t length,
		    enum dma_data_direction direction);
void mock_buffer_release(struct device *dev, struct mock_buffer *buffer);

/* shares.c */
bool mock_share_hold(struct mock_share *share);
void mock_share_let_go(struct mock_share *share);
void mock_share_put(struct mock_share *share);
resource_size_t mock_file_window(struct mock_file *file, resource_size_t *start);

/* chardev.c */
int mock_share_minor_get(struct mock_share *share);
void mock_share_minor_put(struct mock_share *share);

/* ring.c: need jobs_lock */
int mock_ring_start(struct mock_accel *mock, const struct firmware *image);
int mock_ring_stop(struct mock_accel *mock);
void mock_ring_run(struct mock_accel *mock);
void mock_ring_add(struct mock_accel *mock, struct mock_job *job);

/* jobs.c: the functions with _locked need jobs_lock */
void mock_jobs_harvest_locked(struct mock_accel *mock);
void mock_jobs_end_all_locked(struct mock_accel *mock, int error);
void mock_jobs_arm_locked(struct mock_accel *mock);
int mock_job_wait(struct mock_file *file, u64 number, unsigned int timeout_ms, u32 *status,
		  u64 *bytes);
void mock_jobs_close_locked(struct mock_file *file);
void mock_jobs_timeout(struct work_struct *work);

/* submit.c */
int mock_job_submit(struct mock_file *file, const struct mock_ioc_submit *args, u64 *number);

#endif
