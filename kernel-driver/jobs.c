// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: from an open file into the ring, and back with a status.
 *
 * The queue has the jobs that are in the ring, in its order. A job leaves it
 * when the device has written its status, or when the device is stopped or reset
 * and touches its memory no more; only then its pages are released.
 */

#include <linux/jiffies.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "jobs.h"

/* After its own time-out a job ends by a reset of the device, at the latest. */
#define MOCK_GRACE_MS		20000

static void mock_job_put(struct mock_job *job)
{
	if (refcount_dec_and_test(&job->ref))
		kfree(job);
}

/* The device is done with @job. */
static void mock_job_end(struct mock_accel *mock, struct mock_job *job, int error)
{
	struct device *dev = &mock->pdev->dev;

	list_del_init(&job->in_queue);
	mock->queued--;
	if (job->share)
		job->share->queued--;
	mock_share_put(job->share);
	job->share = NULL;
	mock->pinned -= job->pinned;
	mock_buffer_release(dev, &job->source);
	mock_buffer_release(dev, &job->destination);
	job->error = error;
	if (job->file)
		job->file->done++;
	/* Waiters read this without the lock. */
	WRITE_ONCE(job->done, true);
	mock_job_put(job);
}

static struct mock_job *mock_first_job(struct mock_accel *mock)
{
	return list_first_entry_or_null(&mock->queue, struct mock_job, in_queue);
}

/* Time-outs are checked when the first of them expires. */
void mock_jobs_arm_locked(struct mock_accel *mock)
{
	struct mock_job *job = mock_first_job(mock);
	unsigned long first;

	if (!job)
		return;
	first = job->deadline;
	list_for_each_entry(job, &mock->queue, in_queue)
		if (time_before(job->deadline, first))
			first = job->deadline;
	mod_delayed_work(system_wq, &mock->timeout_work,
			 time_after(first, jiffies) ? first - jiffies : 0);
}

/* Take the jobs that the device has completed out of the queue. */
void mock_jobs_harvest_locked(struct mock_accel *mock)
{
	struct mock_descriptor *descriptor;
	struct mock_job *job;
	bool any = false;
	u32 status;

	while ((job = mock_first_job(mock))) {
		descriptor = &mock->ring[job->slot];
		status = le32_to_cpu(READ_ONCE(descriptor->status));
		if (!status)
			break;
		/* The device writes the status last. */
		dma_rmb();
		job->status = status;
		job->bytes = le64_to_cpu(descriptor->bytes);
		mock_job_end(mock, job, 0);
		any = true;
	}
	if (any)
		wake_up_all(&mock->wait);
}

/* The device must be stopped, reset or gone. */
void mock_jobs_end_all_locked(struct mock_accel *mock, int error)
{
	struct mock_job *job;

	while ((job = mock_first_job(mock)))
		mock_job_end(mock, job, job->error ?: error);
	wake_up_all(&mock->wait);
}

static bool mock_expired(struct mock_job *job)
{
	return !time_before(jiffies, job->deadline);
}

static bool mock_any_expired(struct mock_accel *mock)
{
	struct mock_job *job;

	list_for_each_entry(job, &mock->queue, in_queue)
		if (mock_expired(job))
			return true;
	return false;
}

/* A job that waits behind others is taken out of the ring; the one that runs needs a reset. */
void mock_jobs_timeout(struct work_struct *work)
{
	struct mock_accel *mock = container_of(to_delayed_work(work), struct mock_accel,
					       timeout_work);
	struct mock_job *job, *next;

	mutex_lock(&mock->jobs_lock);
	if (mock->gone || mock->resetting)
		goto unlock;
	mock_jobs_harvest_locked(mock);
	job = mock_first_job(mock);
	if (!job)
		goto unlock;
	if (mock_expired(job)) {
		job->error = -ETIME;
		mock_hung_locked(mock);
		goto unlock;
	}
	if (!mock_any_expired(mock))
		goto arm;
	if (mock_ring_stop(mock)) {
		mock_hung_locked(mock);
		goto unlock;
	}
	mock_jobs_harvest_locked(mock);
	list_for_each_entry_safe(job, next, &mock->queue, in_queue)
		if (mock_expired(job))
			mock_job_end(mock, job, -ETIME);
	wake_up_all(&mock->wait);
	mock_ring_run(mock);
arm:
	mock_jobs_arm_locked(mock);
unlock:
	mutex_unlock(&mock->jobs_lock);
}

static struct mock_job *mock_find_job(struct mock_file *file, u64 number)
{
	struct mock_job *job;

	list_for_each_entry(job, &file->jobs, in_file)
		if (job->number == number)
			return job;
	return NULL;
}

/* The file forgets a job. */
static void mock_job_forget(struct mock_file *file, struct mock_job *job)
{
	if (job->done)
		file->done--;
	job->file = NULL;
	list_del_init(&job->in_file);
	file->count--;
	mock_job_put(job);
}

/* @timeout_ms 0: as long as the job's own time-out allows. A job can be waited for once. */
int mock_job_wait(struct mock_file *file, u64 number, unsigned int timeout_ms, u32 *status,
		  u64 *bytes)
{
	struct mock_accel *mock = file->mock;
	unsigned long timeout;
	struct mock_job *job;
	long left;
	int err;

	mutex_lock(&mock->jobs_lock);
	job = mock_find_job(file, number);
	if (!job) {
		mutex_unlock(&mock->jobs_lock);
		return -ENOENT;
	}
	refcount_inc(&job->ref);
	timeout = msecs_to_jiffies(timeout_ms);
	if (!timeout_ms)
		timeout = msecs_to_jiffies(MOCK_GRACE_MS) +
			  max_t(long, job->deadline - jiffies, 0);
	mutex_unlock(&mock->jobs_lock);
	left = wait_event_interruptible_timeout(mock->wait, READ_ONCE(job->done), timeout);
	mutex_lock(&mock->jobs_lock);
	if (!job->done) {
		err = left < 0 ? -EINTR : -ETIME;
	} else if (!job->file) {
		/* Another thread was faster. */
		err = -ENOENT;
	} else {
		err = job->error;
		*status = job->status;
		*bytes = job->bytes;
		mock_job_forget(file, job);
	}
	mutex_unlock(&mock->jobs_lock);
	mock_job_put(job);
	return err;
}

/* End the jobs of a file that is being closed. */
void mock_jobs_close_locked(struct mock_file *file)
{
	struct mock_accel *mock = file->mock;
	struct mock_job *job, *next;
	bool running = false, stopped = true;

	list_for_each_entry(job, &file->jobs, in_file)
		running |= !job->done;
	if (running && !mock->resetting) {
		stopped = !mock_ring_stop(mock);
		mock_jobs_harvest_locked(mock);
	} else if (running) {
		stopped = false;
	}
	list_for_each_entry_safe(job, next, &file->jobs, in_file) {
		/* Jobs that cannot be stopped end, without their file, by the reset. */
		if (stopped && !job->done)
			mock_job_end(mock, job, -ECANCELED);
		mock_job_forget(file, job);
	}
	if (!running || mock->resetting)
		return;
	wake_up_all(&mock->wait);
	if (stopped)
		mock_ring_run(mock);
	else
		mock_hung_locked(mock);
}
