// SPDX-License-Identifier: GPL-2.0
/* Health of a device: its events, and what user space is told. */

#include <linux/io.h>
#include <linux/sysfs.h>

#include "jobs.h"

static const char *mock_health_now(struct mock_accel *mock)
{
	u32 state = ioread32(mock->regs + MOCK_REG_STATE);

	if (mock->hung)
		return "hung";
	if (state == MOCK_DEAD || state & MOCK_STATE_FATAL)
		return "fatal";
	/* The device may still have the one of an earlier driver. */
	if (!(state & MOCK_STATE_FIRMWARE) || !mock->has_firmware)
		return "no-firmware";
	if (!mock->ready)
		return "fatal";
	return state & MOCK_STATE_HOT ? "hot" : "ok";
}

/* Find out the health, and tell a change; needs jobs_lock. */
void mock_health_locked(struct mock_accel *mock)
{
	char variable[32], *envp[2] = { variable, NULL };
	const char *health;

	if (mock->gone || (mock->resetting && !mock->hung))
		return;
	health = mock_health_now(mock);
	if (!strcmp(health, mock->health))
		return;
	mock->health = health;
	if (!mock->notify)
		return;
	snprintf(variable, sizeof(variable), "HEALTH=%s", health);
	sysfs_notify(&mock->notify->kobj, NULL, "health");
	kobject_uevent_env(&mock->notify->kobj, KOBJ_CHANGE, envp);
}

/* Called when the device raises its event interrupt; needs jobs_lock. */
void mock_events_locked(struct mock_accel *mock)
{
	u32 events, error;

	if (mock->gone || mock->resetting)
		return;
	events = ioread32(mock->regs + MOCK_REG_EVENTS);
	if (!events || events == MOCK_DEAD)
		return;
	iowrite32(events, mock->regs + MOCK_REG_EVENTS);
	if (events & MOCK_EVENT_CORRECTABLE)
		pci_info(mock->pdev, "corrected an error\n");
	if (events & (MOCK_EVENT_RING_ERROR | MOCK_EVENT_FATAL)) {
		error = ioread32(mock->regs + MOCK_REG_ERROR);
		pci_err(mock->pdev, "stopped: error %u\n", error);
		mock_jobs_harvest_locked(mock);
		/* It stays so until a reset, which its administrator asks for. */
		mock->ready = false;
		if (!mock_ring_stop(mock))
			mock_jobs_end_all_locked(mock, -EIO);
		else
			mock_hung_locked(mock);
	}
	mock_health_locked(mock);
}
