// SPDX-License-Identifier: GPL-2.0
/* Shares: parts of a device's window and of its ring, each for one user, with a minor number. */

#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "jobs.h"

/* The attribute shows them in one page. */
#define MOCK_MAX_SHARES		32

static void mock_share_free(struct kref *ref)
{
	kfree(container_of(ref, struct mock_share, ref));
}

void mock_share_put(struct mock_share *share)
{
	if (share)
		kref_put(&share->ref, mock_share_free);
}

/* Keep a share from being removed in a page fault; false if it was. NULL: the whole device. */
bool mock_share_hold(struct mock_share *share)
{
	if (!share)
		return true;
	if (!down_read_trylock(&share->present))
		return false;
	if (!share->removed)
		return true;
	up_read(&share->present);
	return false;
}

void mock_share_let_go(struct mock_share *share)
{
	if (share)
		up_read(&share->present);
}

/* The part of the window that @file may use, from *@start; returns its size. */
resource_size_t mock_file_window(struct mock_file *file, resource_size_t *start)
{
	struct mock_accel *mock = file->mock;
	resource_size_t end = READ_ONCE(mock->window_limit) ?: mock->window_size;

	*start = 0;
	if (file->share) {
		*start = file->share->offset;
		end = min_t(resource_size_t, end, *start + file->share->size);
	}
	return end > *start ? end - *start : 0;
}

/* Files of a removed share stay open, but their user has no window and no jobs any more. */
static void mock_share_remove_locked(struct mock_share *share)
{
	struct mock_accel *mock = share->mock;
	struct mock_file *file;

	mock_share_minor_put(share);
	/* Page faults that have not seen it end first: later nothing is mapped any more. */
	down_write(&share->present);
	WRITE_ONCE(share->removed, true);
	up_write(&share->present);
	list_del(&share->node);
	list_for_each_entry(file, &mock->files, node) {
		if (file->share != share)
			continue;
		unmap_mapping_range(file->filp->f_mapping, 0, 0, 1);
		mock_jobs_close_locked(file);
	}
	mock_share_put(share);
}

void mock_shares_clear_locked(struct mock_accel *mock)
{
	struct mock_share *share, *next;

	list_for_each_entry_safe(share, next, &mock->shares, node)
		mock_share_remove_locked(share);
}

static struct mock_share *mock_share_find(struct mock_accel *mock, const char *id)
{
	struct mock_share *share;

	list_for_each_entry(share, &mock->shares, node)
		if (!strcmp(share->id, id))
			return share;
	return NULL;
}

static int mock_share_check(struct mock_accel *mock, const struct mock_share *share)
{
	struct mock_share *other;
	int count = 0;

	/* Not while the device goes away: nothing would remove the share. */
	if (mock->gone || !mock->notify)
		return -ENODEV;
	if (mock_share_find(mock, share->id))
		return -EEXIST;
	list_for_each_entry(other, &mock->shares, node) {
		if (share->offset < other->offset + other->size &&
		    other->offset < share->offset + share->size)
			return -EBUSY;
		count++;
	}
	return count < MOCK_MAX_SHARES ? 0 : -ENOSPC;
}

static int mock_share_add(struct mock_accel *mock, const char *id, u64 offset, u64 size, u64 jobs)
{
	struct mock_share *share;
	int err;

	if (!size || !PAGE_ALIGNED(offset) || !PAGE_ALIGNED(size) || offset > mock->window_size ||
	    size > mock->window_size - offset || jobs > MOCK_RING_SIZE - 1)
		return -EINVAL;
	share = kzalloc(sizeof(*share), GFP_KERNEL);
	if (!share)
		return -ENOMEM;
	kref_init(&share->ref);
	init_rwsem(&share->present);
	share->mock = mock;
	strscpy(share->id, id, sizeof(share->id));
	share->offset = offset;
	share->size = size;
	share->job_limit = jobs;
	mutex_lock(&mock->jobs_lock);
	err = mock_share_check(mock, share);
	if (!err)
		err = mock_share_minor_get(share);
	if (!err) {
		/* Its user must not see what an earlier one has left. */
		memset_io(mock->window + share->offset, 0, share->size);
		list_add_tail(&share->node, &mock->shares);
	}
	mutex_unlock(&mock->jobs_lock);
	if (err)
		kfree(share);
	return err;
}

static int mock_share_remove(struct mock_accel *mock, const char *id)
{
	struct mock_share *share;

	mutex_lock(&mock->jobs_lock);
	share = mock_share_find(mock, id);
	if (share)
		mock_share_remove_locked(share);
	mutex_unlock(&mock->jobs_lock);
	return share ? 0 : -ENOENT;
}

static bool mock_share_id_ok(const char *id)
{
	for (; *id; id++)
		if (!isalnum(*id) && *id != '-')
			return false;
	return true;
}

static ssize_t shares_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	struct mock_share *share;
	int length = 0;

	mutex_lock(&mock->jobs_lock);
	list_for_each_entry(share, &mock->shares, node)
		length += sysfs_emit_at(buf, length, "%s %u %u %u %d\n", share->id, share->offset,
					share->size, share->job_limit, share->minor);
	mutex_unlock(&mock->jobs_lock);
	return length;
}

static ssize_t shares_store(struct device *dev, struct device_attribute *attr, const char *buf,
			    size_t count)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	char action[8], id[MOCK_SHARE_ID_LENGTH];
	u64 offset, size, jobs;
	int fields, err = -EINVAL;

	/* The widths are those of the arrays, without the terminating NUL. */
	fields = sscanf(buf, "%7s %36s %llu %llu %llu", action, id, &offset, &size, &jobs);
	if (fields < 2 || !mock_share_id_ok(id))
		return -EINVAL;
	if (fields == 5 && !strcmp(action, "add"))
		err = mock_share_add(mock, id, offset, size, jobs);
	else if (fields == 2 && !strcmp(action, "remove"))
		err = mock_share_remove(mock, id);
	return err ?: count;
}

DEVICE_ATTR_RW(shares);
