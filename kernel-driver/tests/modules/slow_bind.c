// SPDX-License-Identifier: GPL-2.0
/* For tests: while "hold" is set, whoever binds a VF waits before the driver sees it. */

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/pci.h>

#define SLOW_BIND_VENDOR	0x1de5
#define SLOW_BIND_VF		0x0002
#define SLOW_BIND_POLL_MS	20

static bool hold;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "who binds a VF waits");

static bool waiting;
module_param(waiting, bool, 0444);
MODULE_PARM_DESC(waiting, "whether somebody waits");

static int slow_bind_notify(struct notifier_block *block, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (action != BUS_NOTIFY_BIND_DRIVER || pdev->vendor != SLOW_BIND_VENDOR ||
	    pdev->device != SLOW_BIND_VF)
		return NOTIFY_DONE;
	while (READ_ONCE(hold)) {
		WRITE_ONCE(waiting, true);
		msleep(SLOW_BIND_POLL_MS);
	}
	WRITE_ONCE(waiting, false);
	return NOTIFY_OK;
}

static struct notifier_block slow_bind_notifier = {
	.notifier_call = slow_bind_notify,
};

static int __init slow_bind_init(void)
{
	return bus_register_notifier(&pci_bus_type, &slow_bind_notifier);
}

static void __exit slow_bind_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &slow_bind_notifier);
}

module_init(slow_bind_init);
module_exit(slow_bind_exit);

MODULE_DESCRIPTION("VFs that take long to bind, for tests");
MODULE_LICENSE("GPL");
