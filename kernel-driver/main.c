// SPDX-License-Identifier: GPL-2.0
/*
 * Driver for mock PCI accelerators: exposes each device under
 * /sys/class/mock-accel and lets user space mark it as allocated.
 */

#include <linux/firmware.h>
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

static int mock_find_hardware(struct mock_accel *mock)
{
	struct pci_dev *pdev = mock->pdev;
	u32 revision;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return dev_err_probe(&pdev->dev, err, "cannot be enabled\n");
	if (pci_resource_len(pdev, MOCK_BAR) < MOCK_BAR_SIZE)
		return dev_err_probe(&pdev->dev, -ENODEV, "BAR %d has less than %#x bytes\n",
				     MOCK_BAR, MOCK_BAR_SIZE);
	/* Not exclusively: the MSI-X table is in it, too. */
	mock->regs = devm_ioremap(&pdev->dev, pci_resource_start(pdev, MOCK_BAR), MOCK_BAR_SIZE);
	if (!mock->regs)
		return dev_err_probe(&pdev->dev, -ENOMEM, "cannot map BAR %d\n", MOCK_BAR);
	if (!mock_alive(mock))
		return dev_err_probe(&pdev->dev, -ENODEV, "id register is %#x, expected %#x\n",
				     ioread32(mock->regs + MOCK_REG_ID), MOCK_ID);
	revision = ioread32(mock->regs + MOCK_REG_REVISION);
	if (revision < MOCK_REVISION)
		return dev_err_probe(&pdev->dev, -ENODEV, "revision is %#x, expected %#x\n",
				     revision, MOCK_REVISION);
	return 0;
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
	mock = mock_alloc(pdev);
	if (!mock)
		return -ENOMEM;
	pci_set_drvdata(pdev, mock);
	err = mock_find_hardware(mock);
	if (err)
		goto put;
	mock->is_vf = pdev->is_virtfn;
	mock->index = -1;
	err = mock_jobs_setup(mock);
	if (err)
		goto put;

	mutex_lock(&mock_lock);
	mock->holds_module = mock_allocated(mock) && try_module_get(THIS_MODULE);
	mock_insert(mock);
	err = mock->is_vf ? mock_add_vf(mock) : 0;
	if (err)
		list_del(&mock->node);
	mutex_unlock(&mock_lock);
	if (err)
		goto teardown;
	if (!mock->is_vf)
		mock_publish_soon();
	/* When the link is frozen, it is too late to read this. */
	pci_save_state(pdev);
	return 0;

teardown:
	if (mock->holds_module)
		module_put(THIS_MODULE);
	mock_jobs_teardown(mock);
put:
	kref_put(&mock->ref, mock_free);
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
	mock_jobs_teardown(mock);
	if (mock->holds_module)
		module_put(THIS_MODULE);
	kref_put(&mock->ref, mock_free);
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
	const struct firmware *image = mock_firmware_read(pdev);
	struct mock_accel *mock;

	mutex_lock(&mock_lock);
	list_for_each_entry(mock, &mock_devices, node)
		if (mock_reset_with(mock, pdev))
			mock_reset_ends(mock, image);
	mutex_unlock(&mock_lock);
	release_firmware(image);
	/* The reset has used the saved state up; the next may be one of the link. */
	pci_save_state(pdev);
}

/* The PCI core calls this, resets the link unless accesses still work, and calls slot_reset. */
static pci_ers_result_t mock_error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	if (state == pci_channel_io_perm_failure)
		return PCI_ERS_RESULT_DISCONNECT;
	if (state == pci_channel_io_normal)
		return PCI_ERS_RESULT_CAN_RECOVER;
	mock_reset_prepare(pdev);
	return PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t mock_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	mock_reset_done(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

static const struct pci_error_handlers mock_error_handlers = {
	.error_detected = mock_error_detected,
	.slot_reset = mock_slot_reset,
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
	err = mock_chardev_init();
	if (err)
		goto names_exit;
	err = class_register(&mock_class);
	if (err)
		goto chardev_exit;
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
chardev_exit:
	mock_chardev_exit();
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
	mock_chardev_exit();
}

module_init(mock_init);
module_exit(mock_exit);

MODULE_DESCRIPTION("Mock PCI accelerator");
MODULE_AUTHOR("mock-device maintainers");
MODULE_LICENSE("GPL");
