// SPDX-License-Identifier: GPL-2.0
/* A new job: checked, its memory pinned, and put into the ring. */

#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "jobs.h"

#define MOCK_DIGEST_SIZE	32
#define MOCK_NONCE_SIZE		64

/* Bytes that a job writes, or an error. */
static long mock_job_check(const struct mock_ioc_submit *args)
{
	u64 writes;

	if (args->flags & ~(MOCK_JOB_SOURCE_WINDOW | MOCK_JOB_DESTINATION_WINDOW) ||
	    !args->timeout_ms || args->timeout_ms > MOCK_MAX_TIMEOUT_MS ||
	    !args->length || args->length > MOCK_MAX_LENGTH)
		return -EINVAL;
	switch (args->opcode) {
	case MOCK_OP_FILL:
		if (args->source || args->flags & MOCK_JOB_SOURCE_WINDOW)
			return -EINVAL;
		fallthrough;
	case MOCK_OP_COPY:
		writes = args->length;
		break;
	case MOCK_OP_IDENTIFY:
		if (args->length > MOCK_NONCE_SIZE)
			return -EINVAL;
		fallthrough;
	case MOCK_OP_SHA256:
		writes = MOCK_DIGEST_SIZE;
		break;
	default:
		return -EINVAL;
	}
	return args->destination_length >= writes ? writes : -EINVAL;
}

/* Bytes that a job pins. */
static size_t mock_job_size(const struct mock_ioc_submit *args, size_t writes)
{
	size_t size = args->flags & MOCK_JOB_DESTINATION_WINDOW ? 0 : writes;

	if (args->opcode != MOCK_OP_FILL && !(args->flags & MOCK_JOB_SOURCE_WINDOW))
		size += args->length;
	return size;
}

/*
 * Where in the device's window a place in the window of @file is. The device refuses
 * one beyond its window, so a place beyond the window of @file becomes such a one.
 */
static __le64 mock_window_place(struct mock_file *file, u64 place, u64 length)
{
	struct mock_accel *mock = file->mock;
	resource_size_t start, size;

	if (!file->share)
		return cpu_to_le64(place);
	mutex_lock(&mock->jobs_lock);
	size = mock_file_window(file, &start);
	mutex_unlock(&mock->jobs_lock);
	if (place > size || length > size - place)
		return cpu_to_le64(mock->window_size);
	return cpu_to_le64(start + place);
}

static int mock_job_prepare(struct mock_file *file, struct mock_job *job,
			    const struct mock_ioc_submit *args, size_t writes)
{
	struct mock_descriptor *descriptor = &job->descriptor;
	struct mock_accel *mock = file->mock;
	struct device *dev = &mock->pdev->dev;
	u16 flags = MOCK_DESC_INTERRUPT;
	int err;

	descriptor->opcode = cpu_to_le16(args->opcode);
	descriptor->length = cpu_to_le64(args->length);
	descriptor->argument = cpu_to_le64(args->argument);
	if (args->flags & MOCK_JOB_SOURCE_WINDOW) {
		flags |= MOCK_DESC_SOURCE_WINDOW;
		descriptor->source = mock_window_place(file, args->source, args->length);
	} else if (args->opcode != MOCK_OP_FILL) {
		err = mock_buffer_pin(dev, &job->source, args->source, args->length,
				      DMA_TO_DEVICE);
		if (err)
			return err;
		descriptor->source = cpu_to_le64(job->source.address);
		if (job->source.segments) {
			flags |= MOCK_DESC_SOURCE_LIST;
			descriptor->source_segments = cpu_to_le32(job->source.table.nents);
		}
	}
	if (args->flags & MOCK_JOB_DESTINATION_WINDOW) {
		flags |= MOCK_DESC_DESTINATION_WINDOW;
		descriptor->destination = mock_window_place(file, args->destination, writes);
	} else {
		err = mock_buffer_pin(dev, &job->destination, args->destination, writes,
				      DMA_FROM_DEVICE);
		if (err)
			return err;
		descriptor->destination = cpu_to_le64(job->destination.address);
		if (job->destination.segments) {
			flags |= MOCK_DESC_DESTINATION_LIST;
			descriptor->destination_segments =
				cpu_to_le32(job->destination.table.nents);
		}
	}
	descriptor->flags = cpu_to_le16(flags);
	return 0;
}

static bool mock_has_memory(struct mock_file *file, size_t size)
{
	return file->mock->pinned + size <= MOCK_MAX_PINNED;
}

static bool mock_has_slot(struct mock_file *file, size_t size)
{
	struct mock_accel *mock = file->mock;
	struct mock_share *share = file->share;

	if (share && share->job_limit && share->queued >= share->job_limit)
		return false;
	return !mock->resetting && mock->queued < MOCK_RING_SIZE - 1;
}

/* Take jobs_lock when @room says that there is room, or when there will be none. */
static int mock_wait_for_room(struct mock_file *file, bool (*room)(struct mock_file *, size_t),
			      size_t size, unsigned long deadline)
{
	struct mock_accel *mock = file->mock;
	long left;

	for (;;) {
		mutex_lock(&mock->jobs_lock);
		if (mock->gone || (!mock->ready && !mock->resetting))
			return -EIO;
		if (file->share && file->share->removed)
			return -ENODEV;
		if (room(file, size))
			return 0;
		if (file->filp->f_flags & O_NONBLOCK)
			return -EAGAIN;
		mutex_unlock(&mock->jobs_lock);
		left = max_t(long, deadline - jiffies, 0);
		left = wait_event_interruptible_timeout(mock->wait,
							READ_ONCE(mock->gone) || room(file, size),
							left);
		if (left <= 0) {
			mutex_lock(&mock->jobs_lock);
			return left ? -EINTR : -ETIME;
		}
	}
}

/* Reserve the memory of a job before it is pinned: those that wait for room pin none. */
static int mock_reserve(struct mock_file *file, struct mock_job *job)
{
	struct mock_accel *mock = file->mock;
	int err;

	err = mock_wait_for_room(file, mock_has_memory, job->pinned, job->deadline);
	if (!err)
		mock->pinned += job->pinned;
	mutex_unlock(&mock->jobs_lock);
	return err;
}

static void mock_unreserve(struct mock_accel *mock, struct mock_job *job)
{
	mutex_lock(&mock->jobs_lock);
	mock->pinned -= job->pinned;
	mutex_unlock(&mock->jobs_lock);
	wake_up_all(&mock->wait);
}

/* The result is in @number: the job is in the ring, and may have ended already. */
int mock_job_submit(struct mock_file *file, const struct mock_ioc_submit *args, u64 *number)
{
	struct mock_accel *mock = file->mock;
	struct mock_job *job;
	long writes;
	int err;

	writes = mock_job_check(args);
	if (writes < 0)
		return writes;
	/* Buffers are mapped for a device that must not go away meanwhile. */
	if (!down_read_trylock(&mock->present))
		return -EIO;
	err = -EIO;
	if (mock->gone)
		goto up;
	err = -ENOMEM;
	job = kzalloc(sizeof(*job), GFP_KERNEL_ACCOUNT);
	if (!job)
		goto up;
	refcount_set(&job->ref, 2);
	job->deadline = jiffies + msecs_to_jiffies(args->timeout_ms);
	job->pinned = mock_job_size(args, writes);
	err = mock_reserve(file, job);
	if (err)
		goto free;
	err = mock_job_prepare(file, job, args, writes);
	if (err)
		goto release;
	err = mock_wait_for_room(file, mock_has_slot, 0, job->deadline);
	if (!err && file->count >= MOCK_MAX_FILE_JOBS)
		err = -EAGAIN;
	if (err) {
		mutex_unlock(&mock->jobs_lock);
		goto release;
	}
	job->number = ++mock->last_job;
	job->file = file;
	list_add_tail(&job->in_file, &file->jobs);
	file->count++;
	list_add_tail(&job->in_queue, &mock->queue);
	mock->queued++;
	if (file->share) {
		kref_get(&file->share->ref);
		job->share = file->share;
		job->share->queued++;
	}
	*number = job->number;
	mock_ring_add(mock, job);
	mock_jobs_arm_locked(mock);
	mutex_unlock(&mock->jobs_lock);
	up_read(&mock->present);
	return 0;

release:
	mock_buffer_release(&mock->pdev->dev, &job->source);
	mock_buffer_release(&mock->pdev->dev, &job->destination);
	mock_unreserve(mock, job);
free:
	kfree(job);
up:
	up_read(&mock->present);
	return err;
}
