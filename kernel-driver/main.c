// SPDX-License-Identifier: GPL-2.0
/*
 * Driver for mock PCI accelerators: exposes each device under
 * /sys/class/mock-accel and lets user space mark it as allocated.
 */

#include <linux/io.h>
#include <linux/module.h>

#include "mock_accel.h"

/* All bound functions, in PCI order. */
LIST_HEAD(mock_devices);
/* Protects the list and its entries. */
DEFINE_MUTEX(mock_lock);

/* Negative if a comes before b in PCI order. */
static int mock_compare(struct pci_dev *a, struct pci_dev *b)
{
	if (pci_domain_nr(a->bus) != pci_domain_nr(b->bus))
		return pci_domain_nr(a->bus) - pci_domain_nr(b->bus);
	return (int)pci_dev_id(a) - (int)pci_dev_id(b);
}

static void mock_insert(struct mock_accel *mock)
{
	struct mock_accel *other;

	list_for_each_entry(other, &mock_devices, node)
		if (mock_compare(mock->pdev, other->pdev) < 0)
			break;
	list_add_tail(&mock->node, &other->node);
}

static int mock_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct mock_accel *mock;
	int err;

	/* It is scanned again soon, as a PF with SR-IOV. */
	if (mock_sriov_hidden(pdev))
		return -ENODEV;
	if (pdev->device == MOCK_DEVICE_ID_VF && !pdev->is_virtfn)
		return dev_err_probe(&pdev->dev, -ENODEV, "is not a VF that a PF enabled\n");
	mock = devm_kzalloc(&pdev->dev, sizeof(*mock), GFP_KERNEL);
	if (!mock)
		return -ENOMEM;
	err = pcim_enable_device(pdev);
	if (err)
		return dev_err_probe(&pdev->dev, err, "cannot be enabled\n");
	if (pci_resource_len(pdev, MOCK_BAR) < MOCK_BAR_SIZE)
		return dev_err_probe(&pdev->dev, -ENODEV, "BAR %d has less than %#x bytes\n",
				     MOCK_BAR, MOCK_BAR_SIZE);
	mock->regs = devm_ioremap_resource(&pdev->dev, &pdev->resource[MOCK_BAR]);
	if (IS_ERR(mock->regs))
		return dev_err_probe(&pdev->dev, PTR_ERR(mock->regs), "cannot map BAR %d\n",
				     MOCK_BAR);
	if (!mock_alive(mock))
		return dev_err_probe(&pdev->dev, -ENODEV, "id register is %#x, expected %#x\n",
				     ioread32(mock->regs + MOCK_REG_ID), MOCK_ID);
	mock->pdev = pdev;
	mock->is_vf = pdev->is_virtfn;
	mock->index = -1;
	pci_set_drvdata(pdev, mock);

	mutex_lock(&mock_lock);
	mock->holds_module = mock_allocated(mock) && try_module_get(THIS_MODULE);
	mock_insert(mock);
	err = mock->is_vf ? mock_add_vf(mock) : 0;
	if (err)
		list_del(&mock->node);
	mutex_unlock(&mock_lock);
	if (err && mock->holds_module)
		module_put(THIS_MODULE);
	if (!err && !mock->is_vf)
		mock_publish_soon();
	return err;
}

static void mock_remove(struct pci_dev *pdev)
{
	struct mock_accel *mock = pci_get_drvdata(pdev);

	if (!mock->is_vf)
		pci_disable_sriov(pdev);
	mutex_lock(&mock_lock);
	if (mock->is_vf)
		mock_unpublish_vf(mock);
	else
		mock_unpublish_pf(mock);
	list_del(&mock->node);
	mutex_unlock(&mock_lock);
	if (mock->holds_module)
		module_put(THIS_MODULE);
}

/* A reset of a PF also resets the VFs that the PCI core created for it. */
static bool mock_reset_with(struct mock_accel *mock, struct pci_dev *pdev)
{
	return mock->pdev == pdev || (mock->pdev->is_virtfn && pci_physfn(mock->pdev) == pdev);
}

static void mock_reset_prepare(struct pci_dev *pdev)
{
	struct mock_accel *mock;

	mutex_lock(&mock_lock);
	list_for_each_entry(mock, &mock_devices, node)
		if (mock_reset_with(mock, pdev))
			mock_reset_begins(mock);
	mutex_unlock(&mock_lock);
}

static void mock_reset_done(struct pci_dev *pdev)
{
	struct mock_accel *mock;

	mutex_lock(&mock_lock);
	list_for_each_entry(mock, &mock_devices, node)
		if (mock_reset_with(mock, pdev))
			mock_reset_ends(mock);
	mutex_unlock(&mock_lock);
}

static const struct pci_error_handlers mock_error_handlers = {
	.reset_prepare = mock_reset_prepare,
	.reset_done = mock_reset_done,
};

/* Losing power is a reset, too. */
static int mock_suspend(struct device *dev)
{
	mock_reset_prepare(to_pci_dev(dev));
	return 0;
}

static int mock_resume(struct device *dev)
{
	mock_reset_done(to_pci_dev(dev));
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(mock_pm_ops, mock_suspend, mock_resume);

static const struct pci_device_id mock_ids[] = {
	{ PCI_DEVICE(MOCK_VENDOR_ID, MOCK_DEVICE_ID_PF) },
	{ PCI_DEVICE(MOCK_VENDOR_ID, MOCK_DEVICE_ID_VF) },
	{ }
};
MODULE_DEVICE_TABLE(pci, mock_ids);

static struct pci_driver mock_driver = {
	.name = KBUILD_MODNAME,
	.id_table = mock_ids,
	.probe = mock_probe,
	.remove = mock_remove,
	.sriov_configure = mock_sriov_configure,
	.err_handler = &mock_error_handlers,
	.driver.pm = pm_sleep_ptr(&mock_pm_ops),
};

static int __init mock_init(void)
{
	int err;

	err = mock_names_init();
	if (err)
		return err;
	err = class_register(&mock_class);
	if (err)
		goto names_exit;
	err = mock_sriov_init();
	if (err)
		goto unregister_class;
	err = pci_register_driver(&mock_driver);
	if (err)
		goto sriov_exit;
	/* Devices that existed before the module are published when loading returns. */
	mock_names_flush();
	return 0;

sriov_exit:
	mock_sriov_exit();
unregister_class:
	class_unregister(&mock_class);
names_exit:
	mock_names_exit();
	return err;
}

static void __exit mock_exit(void)
{
	pci_unregister_driver(&mock_driver);
	mock_sriov_exit();
	mock_names_exit();
	class_unregister(&mock_class);
}

module_init(mock_init);
module_exit(mock_exit);

MODULE_DESCRIPTION("Mock PCI accelerator");
MODULE_AUTHOR("mock-device maintainers");
MODULE_LICENSE("GPL");
