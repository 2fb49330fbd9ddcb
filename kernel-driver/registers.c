// SPDX-License-Identifier: GPL-2.0
/* Registers of a mock accelerator: whether it is alive, and its status across resets. */

#include <linux/io.h>
#include <linux/module.h>

#include "mock_accel.h"

bool mock_alive(struct mock_accel *mock)
{
	return ioread32(mock->regs + MOCK_REG_ID) == MOCK_ID;
}

/* During a reset, the status that the device will have after it. */
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

/* A write is posted: only reading it back shows that the device accepted it. */
static int mock_write_status(struct mock_accel *mock, u32 status)
{
	iowrite32(status, mock->regs + MOCK_REG_STATUS);
	return ioread32(mock->regs + MOCK_REG_STATUS) == status ? 0 : -EIO;
}

/* An allocated device holds the module, because its user would lose the device. */
int mock_set_status(struct mock_accel *mock, u32 status)
{
	bool hold = status == MOCK_STATUS_ALLOCATED, held = mock->holds_module;
	int err;

	if (hold && !held && !try_module_get(THIS_MODULE))
		return -ENODEV;
	err = mock_write_status(mock, status);
	if (!err && !hold)
		mock_restore_defaults(mock);
	/* If the device did not accept the status, the old one remains. */
	mock->holds_module = err ? held : hold;
	if ((hold || held) && !mock->holds_module)
		module_put(THIS_MODULE);
	return err;
}

/*
 * Resets may overlap: the reset of a PF also resets its VFs, whose configuration
 * the PCI core does not save.
 */
void mock_reset_begins(struct mock_accel *mock)
{
	mock->kept = mock_status(mock);
	if (mock->resets++)
		return;
	mock_jobs_pause(mock);
	if (mock->is_vf)
		pci_save_state(mock->pdev);
}

/* A reset must not free a device: restore its status and notify user space. */
void mock_reset_ends(struct mock_accel *mock, const struct firmware *image)
{
	static char *envp[2] = { "RESET=1" };

	/* Bound after the reset began. */
	if (!mock->resets)
		return;
	if (--mock->resets)
		return;
	if (mock->is_vf)
		pci_restore_state(mock->pdev);
	if (mock->kept != MOCK_DEAD && mock_write_status(mock, mock->kept))
		pci_err(mock->pdev, "lost its status %u in a reset\n", mock->kept);
	mock_jobs_resume(mock, image);
	if (mock->dev)
		kobject_uevent_env(&mock->dev->kobj, KOBJ_CHANGE, envp);
}
