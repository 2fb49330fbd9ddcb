// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: occupies a name in the class mock-accel, so that the driver cannot
 * publish the device with that name.
 *
 * "device" is the name of a published device, "name" the name to occupy.
 */

#include <linux/device.h>
#include <linux/module.h>
#include <linux/pci.h>

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "name of a published device");

static char *name;
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "name to take");

static struct device *taken;

static int __init name_taker_init(void)
{
	struct pci_dev *pdev = NULL;
	struct device *found;

	while ((pdev = pci_get_device(0x1de5, PCI_ANY_ID, pdev))) {
		found = device_find_child_by_name(&pdev->dev, device);
		if (!found)
			continue;
		taken = device_create(found->class, NULL, MKDEV(0, 0), NULL, "%s", name);
		put_device(found);
		pci_dev_put(pdev);
		return PTR_ERR_OR_ZERO(taken);
	}
	return -ENODEV;
}

static void __exit name_taker_exit(void)
{
	device_unregister(taken);
}

module_init(name_taker_init);
module_exit(name_taker_exit);

MODULE_DESCRIPTION("Takes a name of the class mock-accel, for tests");
MODULE_LICENSE("GPL");
