// SPDX-License-Identifier: GPL-2.0
/* Registers of a mock accelerator: whether it is alive, and its status, through resets, too. */

#include <linux/io.h>
#include <linux/module.h>

#include "mock_accel.h"

bool mock_alive(struct mock_accel *mock)
{
	return ioread32(mock->regs + MOCK_REG_ID) == MOCK_ID;
}

/* During a reset: the status that the device will have after it. */
u32 mock_status(struct mock_accel *mock)
{
	if (mock->resets)
		return mock->kept;
	return ioread32(mock->regs + MOCK_REG_STATUS);
}

bool mock_allocated(struct mock_accel *mock)
{
	return mock_status(mock) == MOCK_STATUS_ALLOCATED;
}

/* A write is posted: only the answer of a read shows that the device has it. */
static int mock_write_status(struct mock_accel *mock, u32 status)
{
	iowrite32(status, mock->regs + MOCK_REG_STATUS);
	return ioread32(mock->regs + MOCK_REG_STATUS) == status ? 0 : -EIO;
}

/* The module stays while a device is allocated: its user would lose it. */
int mock_set_status(struct mock_accel *mock, u32 status)
{
	bool hold = status == MOCK_STATUS_ALLOCATED, held = mock->holds_module;
	int err;

	if (hold && !held && !try_module_get(THIS_MODULE))
		return -ENODEV;
	err = mock_write_status(mock, status);
	/* A device that did not take the status counts as before. */
	mock->holds_module = err ? held : hold;
	if ((hold || held) && !mock->holds_module)
		module_put(THIS_MODULE);
	return err;
}

/* Resets may overlap: that of a PF is one of its VFs, too. */
void mock_reset_begins(struct mock_accel *mock)
{
	mock->kept = mock_status(mock);
	mock->resets++;
}

/* A reset frees nothing: give the device its status back, and tell user space. */
void mock_reset_ends(struct mock_accel *mock)
{
	static char *envp[2] = { "RESET=1" };

	/* Bound since the reset began. */
	if (!mock->resets)
		return;
	if (--mock->resets)
		return;
	if (mock->kept != MOCK_DEAD && mock_write_status(mock, mock->kept))
		pci_err(mock->pdev, "lost its status %u in a reset\n", mock->kept);
	if (mock->dev)
		kobject_uevent_env(&mock->dev->kobj, KOBJ_CHANGE, envp);
}
