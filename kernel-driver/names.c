// SPDX-License-Identifier: GPL-2.0
/*
 * Names of PFs, and when devices get them.
 *
 * Names follow PCI order, independent of the order of hot-plug: PFs are mock0,
 * mock1, ..., the VFs of mock0 are mock0_vf0, mock0_vf1, ... A new device is
 * published after a short delay, together with others that arrive meanwhile. It
 * takes a free number between its neighbours'. If there is none, all devices are
 * renumbered in order, unless one is allocated: then names stay, and the new
 * device takes the number after the last.
 */

#include <linux/workqueue.h>

#include "mock_accel.h"

#define MOCK_SETTLE_MS		200

static struct workqueue_struct *mock_workqueue;

/* Taking an allocated device from its user is logged. */
void mock_unpublish(struct mock_accel *mock)
{
	if (mock->holds_module)
		pci_warn(mock->pdev, "%s goes away while it is allocated\n", dev_name(mock->dev));
	mock_device_destroy(mock);
}

/* VFs are unpublished with their PF. */
void mock_unpublish_pf(struct mock_accel *pf)
{
	mock_unpublish_vfs(pf);
	if (pf->dev)
		mock_unpublish(pf);
}

/* After an error the next new device causes another attempt. */
static void mock_publish_pf(struct mock_accel *pf)
{
	char name[MOCK_NAME_LENGTH];

	snprintf(name, sizeof(name), "mock%d", pf->index);
	mock_device_create(pf, mock_pf_groups, name);
}

/* The number of the next published PF after @pf, or INT_MAX. */
static int mock_next_index(struct mock_accel *pf)
{
	list_for_each_entry_continue(pf, &mock_devices, node)
		if (!pf->is_vf && pf->dev)
			return pf->index;
	return INT_MAX;
}

/* Give numbers to PFs that have none; false if the order of names leaves no free number. */
static bool mock_fill_gaps(void)
{
	struct mock_accel *mock;
	int last = -1;

	list_for_each_entry(mock, &mock_devices, node) {
		if (mock->is_vf)
			continue;
		if (!mock->dev) {
			if (last + 1 >= mock_next_index(mock))
				return false;
			mock->index = last + 1;
		} else if (mock->index <= last) {
			return false;
		}
		last = mock->index;
	}
	return true;
}

/* Dead devices, and VFs whose PF is not bound, still have their users. */
static bool mock_any_allocated(void)
{
	struct mock_accel *mock;

	list_for_each_entry(mock, &mock_devices, node)
		if (mock->holds_module || mock_allocated(mock))
			return true;
	return false;
}

static void mock_renumber(void)
{
	struct mock_accel *mock;
	int last = -1;

	list_for_each_entry(mock, &mock_devices, node)
		if (!mock->is_vf)
			mock_unpublish_pf(mock);
	list_for_each_entry(mock, &mock_devices, node)
		if (!mock->is_vf)
			mock->index = ++last;
}

static void mock_number_after_last(void)
{
	struct mock_accel *mock;
	int last = -1;

	list_for_each_entry(mock, &mock_devices, node)
		if (!mock->is_vf && mock->dev)
			last = max(last, mock->index);
	list_for_each_entry(mock, &mock_devices, node)
		if (!mock->is_vf && !mock->dev)
			mock->index = ++last;
}

/* Publish the devices that arrived since the last call. */
static void mock_settle(struct work_struct *work)
{
	struct mock_accel *mock;

	mutex_lock(&mock_lock);
	if (!mock_fill_gaps()) {
		if (mock_any_allocated())
			mock_number_after_last();
		else
			mock_renumber();
	}
	list_for_each_entry(mock, &mock_devices, node) {
		if (mock->is_vf)
			continue;
		if (!mock->dev)
			mock_publish_pf(mock);
		mock_publish_vfs(mock);
	}
	mutex_unlock(&mock_lock);
}

static DECLARE_DELAYED_WORK(mock_settle_work, mock_settle);

void mock_publish_soon(void)
{
	mod_delayed_work(mock_workqueue, &mock_settle_work, msecs_to_jiffies(MOCK_SETTLE_MS));
}

int mock_names_init(void)
{
	mock_workqueue = alloc_ordered_workqueue("%s", 0, KBUILD_MODNAME);
	return mock_workqueue ? 0 : -ENOMEM;
}

void mock_names_flush(void)
{
	flush_delayed_work(&mock_settle_work);
}

/* Call this after the last probe. */
void mock_names_exit(void)
{
	cancel_delayed_work_sync(&mock_settle_work);
	destroy_workqueue(mock_workqueue);
}
