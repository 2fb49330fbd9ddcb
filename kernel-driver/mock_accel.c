// SPDX-License-Identifier: GPL-2.0
/*
 * Driver of mock PCI accelerators: shows each device under
 * /sys/class/mock-accel and lets user space mark it as allocated.
 *
 * Names follow PCI order whatever the order of hot-plug: PFs are mock0, mock1,
 * ..., the VFs of mock0 are mock0_vf0, mock0_vf1, ... A device that comes is
 * published a moment later, together with those that come with it. It takes a
 * free number between its neighbours'; without one, all devices are published
 * anew in order, unless one of them is allocated: then names stay, and the new
 * device takes the number after the last.
 *
 * A PF that shows the SR-IOV capability enables its VFs by it. Where a machine
 * emulator hides the capability, the VFs are functions of the PF's slot that
 * are always there, and sriov_numvfs publishes the first N that follow the PF.
 */

#include <linux/ctype.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define MOCK_VENDOR_ID		0x1de5
#define MOCK_DEVICE_ID_PF	0x0001
#define MOCK_DEVICE_ID_VF	0x0002

#define MOCK_BAR		0
#define MOCK_REG_ID		0x00
#define MOCK_REG_UUID		0x08
#define MOCK_REG_MEMORY		0x20
#define MOCK_REG_CAPABILITIES	0x28
#define MOCK_REG_STATUS		0x2c
#define MOCK_BAR_SIZE		0x30

#define MOCK_ID			0x4d4f434b
#define MOCK_UUID_SIZE		16
#define MOCK_STATUS_FREE	0
#define MOCK_STATUS_ALLOCATED	1

/* What a read of a device that is gone returns. */
#define MOCK_DEAD		U32_MAX

#define MOCK_SETTLE_MS		200

struct mock_accel {
	struct list_head node;
	struct pci_dev *pdev;
	void __iomem *regs;
	struct device *dev;	/* of the class; NULL while not published */
	struct mock_accel *pf;	/* of a published VF */
	unsigned int numvfs;	/* of a PF */
	int index;		/* number in the name; -1 while it has none */
	bool is_vf;
	bool holds_module;	/* while allocated */
};

/* All functions that are bound, in PCI order. */
static LIST_HEAD(mock_devices);
static DEFINE_MUTEX(mock_lock);

static void mock_settle(struct work_struct *work);
static DECLARE_DELAYED_WORK(mock_settle_work, mock_settle);

static const struct class mock_class = {
	.name = "mock-accel",
};

static u32 mock_status(struct mock_accel *mock)
{
	return ioread32(mock->regs + MOCK_REG_STATUS);
}

static bool mock_allocated(struct mock_accel *mock)
{
	return mock_status(mock) == MOCK_STATUS_ALLOCATED;
}

static bool mock_alive(struct mock_accel *mock)
{
	return ioread32(mock->regs + MOCK_REG_ID) == MOCK_ID;
}

static bool mock_same_slot(struct mock_accel *a, struct mock_accel *b)
{
	return a->pdev->bus == b->pdev->bus &&
	       PCI_SLOT(a->pdev->devfn) == PCI_SLOT(b->pdev->devfn);
}

/* Negative when a comes before b in PCI order. */
static int mock_compare(struct pci_dev *a, struct pci_dev *b)
{
	if (pci_domain_nr(a->bus) != pci_domain_nr(b->bus))
		return pci_domain_nr(a->bus) - pci_domain_nr(b->bus);
	return (int)pci_dev_id(a) - (int)pci_dev_id(b);
}

/*
 * The VF after @last (or the first, when NULL) of those that follow @pf in its
 * slot and were not made by the PCI core.
 */
static struct mock_accel *mock_next_vf(struct mock_accel *pf, struct mock_accel *last)
{
	struct mock_accel *next = list_next_entry(last ?: pf, node);

	if (list_entry_is_head(next, &mock_devices, node) ||
	    !next->is_vf || next->pdev->is_virtfn || !mock_same_slot(pf, next))
		return NULL;
	return next;
}

static bool mock_has_sriov(struct mock_accel *pf)
{
	return pci_sriov_get_totalvfs(pf->pdev) > 0;
}

static unsigned int mock_total_vfs(struct mock_accel *pf)
{
	struct mock_accel *vf = NULL;
	unsigned int total = 0;

	if (mock_has_sriov(pf))
		return pci_sriov_get_totalvfs(pf->pdev);
	while ((vf = mock_next_vf(pf, vf)))
		total++;
	return total;
}

/*
 * Attributes. Unpublishing waits for those who are inside one of them, with
 * the lock held: they must not wait for the lock, but start anew.
 */

static ssize_t uuid_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	char uuid[MOCK_UUID_SIZE + 1] = "";
	int i;

	memcpy_fromio(uuid, mock->regs + MOCK_REG_UUID, MOCK_UUID_SIZE);
	if (!mock_alive(mock))
		return -EIO;
	for (i = 0; uuid[i]; i++)
		if (!isascii(uuid[i]) || !isprint(uuid[i]))
			uuid[i] = '?';
	return sysfs_emit(buf, "%s\n", uuid);
}
static DEVICE_ATTR_RO(uuid);

static ssize_t memory_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	u32 low = ioread32(mock->regs + MOCK_REG_MEMORY);
	u32 high = ioread32(mock->regs + MOCK_REG_MEMORY + 4);

	if (!mock_alive(mock))
		return -EIO;
	return sysfs_emit(buf, "%llu\n", (u64)high << 32 | low);
}
static DEVICE_ATTR_RO(memory_size);

static ssize_t numa_node_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d\n", dev_to_node(&mock->pdev->dev));
}
static DEVICE_ATTR_RO(numa_node);

static ssize_t capabilities_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	u32 capabilities = ioread32(mock->regs + MOCK_REG_CAPABILITIES);

	if (!mock_alive(mock))
		return -EIO;
	return sysfs_emit(buf, "0x%08x\n", capabilities);
}
static DEVICE_ATTR_RO(capabilities);

static ssize_t status_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u32 status = mock_status(dev_get_drvdata(dev));

	if (status == MOCK_DEAD)
		return -EIO;
	return sysfs_emit(buf, "%u\n", status);
}

/* The module stays while a device is allocated: its user would lose it. */
static int mock_set_status(struct mock_accel *mock, u32 status)
{
	bool hold = status == MOCK_STATUS_ALLOCATED;

	if (!mock_alive(mock))
		return -EIO;
	if (hold && !mock->holds_module && !try_module_get(THIS_MODULE))
		return -ENODEV;
	iowrite32(status, mock->regs + MOCK_REG_STATUS);
	if (!hold && mock->holds_module)
		module_put(THIS_MODULE);
	mock->holds_module = hold;
	return 0;
}

static ssize_t status_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	bool changed;
	u32 status;
	int err;

	err = kstrtou32(buf, 10, &status);
	if (err || status > MOCK_STATUS_ALLOCATED)
		return -EINVAL;
	if (!mutex_trylock(&mock_lock))
		return restart_syscall();
	changed = mock_status(mock) != status;
	err = mock_set_status(mock, status);
	mutex_unlock(&mock_lock);
	if (err)
		return err;
	if (changed) {
		sysfs_notify(&dev->kobj, NULL, "status");
		kobject_uevent(&dev->kobj, KOBJ_CHANGE);
	}
	return count;
}
static DEVICE_ATTR_RW(status);

static struct attribute *mock_attrs[] = {
	&dev_attr_uuid.attr,
	&dev_attr_memory_size.attr,
	&dev_attr_numa_node.attr,
	&dev_attr_capabilities.attr,
	&dev_attr_status.attr,
	NULL
};
ATTRIBUTE_GROUPS(mock);

static ssize_t sriov_totalvfs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	unsigned int total;

	if (!mutex_trylock(&mock_lock))
		return restart_syscall();
	total = mock_total_vfs(dev_get_drvdata(dev));
	mutex_unlock(&mock_lock);
	return sysfs_emit(buf, "%u\n", total);
}
static DEVICE_ATTR_RO(sriov_totalvfs);

static ssize_t sriov_numvfs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *pf = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", mock_has_sriov(pf) ? pci_num_vf(pf->pdev) : pf->numvfs);
}

static int mock_publish_vf(struct mock_accel *pf, struct mock_accel *vf, unsigned int number);
static void mock_unpublish_vf(struct mock_accel *vf);

/* Publish the first @count VFs of @pf, and no others. */
static int mock_publish_vfs(struct mock_accel *pf, unsigned int count)
{
	struct mock_accel *vf = NULL;
	unsigned int number = 0;
	int err;

	while ((vf = mock_next_vf(pf, vf))) {
		if (number < count && !vf->dev) {
			err = mock_publish_vf(pf, vf, number);
			if (err)
				return err;
		} else if (number >= count && vf->dev) {
			mock_unpublish_vf(vf);
		}
		number++;
	}
	pf->numvfs = min(count, number);
	return 0;
}

static bool mock_vf_allocated(struct mock_accel *pf)
{
	struct mock_accel *other;

	list_for_each_entry(other, &mock_devices, node)
		if (other->pf == pf && other->dev && mock_allocated(other))
			return true;
	return false;
}

/* May go up at will; down only while no VF is allocated. */
static int mock_set_numvfs(struct mock_accel *pf, unsigned int count)
{
	unsigned int before = pf->numvfs;
	int err;

	if (count > mock_total_vfs(pf))
		return -EINVAL;
	if (count < before && mock_vf_allocated(pf))
		return -EBUSY;
	err = mock_publish_vfs(pf, count);
	if (err)
		mock_publish_vfs(pf, before);
	return err;
}

/* For kernels that show the capability; the PCI core checks the number. */
static int mock_sriov_configure(struct pci_dev *pdev, int count)
{
	struct mock_accel *pf = pci_get_drvdata(pdev);
	bool busy;
	int err;

	if (count) {
		err = pci_enable_sriov(pdev, count);
		return err ?: count;
	}
	mutex_lock(&mock_lock);
	busy = mock_vf_allocated(pf);
	mutex_unlock(&mock_lock);
	if (busy)
		return -EBUSY;
	pci_disable_sriov(pdev);
	return 0;
}

/* Like a write to the PCI device's own sriov_numvfs: only from 0 and to 0. */
static int mock_set_real_numvfs(struct mock_accel *pf, unsigned int count)
{
	struct pci_dev *pdev = pf->pdev;
	int err = 0;

	if (count > mock_total_vfs(pf))
		return -EINVAL;
	/* Who unbinds the driver has this lock and waits for the attribute. */
	if (!device_trylock(&pdev->dev))
		return restart_syscall();
	if (count && pci_num_vf(pdev) && count != pci_num_vf(pdev))
		err = -EBUSY;
	else if (count != pci_num_vf(pdev))
		err = mock_sriov_configure(pdev, count);
	device_unlock(&pdev->dev);
	return min(err, 0);
}

static ssize_t sriov_numvfs_store(struct device *dev, struct device_attribute *attr,
				  const char *buf, size_t count)
{
	struct mock_accel *pf = dev_get_drvdata(dev);
	u32 number;
	int err;

	if (kstrtou32(buf, 10, &number))
		return -EINVAL;
	if (mock_has_sriov(pf)) {
		err = mock_set_real_numvfs(pf, number);
		return err ?: count;
	}
	if (!mutex_trylock(&mock_lock))
		return restart_syscall();
	err = mock_set_numvfs(pf, number);
	mutex_unlock(&mock_lock);
	return err ?: count;
}
static DEVICE_ATTR_RW(sriov_numvfs);

static struct attribute *mock_pf_attrs[] = {
	&dev_attr_sriov_totalvfs.attr,
	&dev_attr_sriov_numvfs.attr,
	NULL
};

static const struct attribute_group mock_pf_group = {
	.attrs = mock_pf_attrs,
};

static const struct attribute_group *mock_pf_groups[] = {
	&mock_group,
	&mock_pf_group,
	NULL
};

/* Publishing: the class device of a function, with the lock held. */

/* A VF that the PCI core made. */
static int mock_publish_real_vf(struct mock_accel *pf, struct mock_accel *vf)
{
	struct device *dev;

	vf->index = pci_iov_vf_id(vf->pdev);
	dev = device_create_with_groups(&mock_class, &vf->pdev->dev, MKDEV(0, 0), vf,
					mock_groups, "mock%d_vf%d", pf->index, vf->index);
	if (IS_ERR(dev))
		return PTR_ERR(dev);
	vf->dev = dev;
	vf->pf = pf;
	return 0;
}

/* All VFs of @pf that the PCI core made and that are bound; none while @pf is not published. */
static int mock_publish_real_vfs(struct mock_accel *pf)
{
	struct mock_accel *vf;
	int err;

	if (!pf->dev)
		return 0;
	list_for_each_entry(vf, &mock_devices, node) {
		if (!vf->pdev->is_virtfn || vf->dev || pci_physfn(vf->pdev) != pf->pdev)
			continue;
		err = mock_publish_real_vf(pf, vf);
		if (err)
			return err;
	}
	return 0;
}

static int mock_publish_pf(struct mock_accel *pf)
{
	struct device *dev;

	dev = device_create_with_groups(&mock_class, &pf->pdev->dev, MKDEV(0, 0), pf,
					mock_pf_groups, "mock%d", pf->index);
	if (IS_ERR(dev)) {
		pci_err(pf->pdev, "cannot publish mock%d: %pe\n", pf->index, dev);
		return PTR_ERR(dev);
	}
	pf->dev = dev;
	if (mock_has_sriov(pf))
		return mock_publish_real_vfs(pf);
	return mock_publish_vfs(pf, pf->numvfs);
}

static int mock_publish_vf(struct mock_accel *pf, struct mock_accel *vf, unsigned int number)
{
	struct kobject *pf_kobj = &pf->pdev->dev.kobj, *vf_kobj = &vf->pdev->dev.kobj;
	struct device *dev;
	char link[24];
	int err;

	snprintf(link, sizeof(link), "virtfn%u", number);
	err = sysfs_create_link(vf_kobj, pf_kobj, "physfn");
	if (err)
		return err;
	err = sysfs_create_link(pf_kobj, vf_kobj, link);
	if (err)
		goto remove_physfn;
	dev = device_create_with_groups(&mock_class, &vf->pdev->dev, MKDEV(0, 0), vf,
					mock_groups, "mock%d_vf%u", pf->index, number);
	if (IS_ERR(dev)) {
		err = PTR_ERR(dev);
		goto remove_virtfn;
	}
	vf->dev = dev;
	vf->pf = pf;
	vf->index = number;
	return 0;

remove_virtfn:
	sysfs_remove_link(pf_kobj, link);
remove_physfn:
	sysfs_remove_link(vf_kobj, "physfn");
	return err;
}

static void mock_unpublish_vf(struct mock_accel *vf)
{
	char link[24];

	device_unregister(vf->dev);
	vf->dev = NULL;
	/* The links of real VFs are the PCI core's own. */
	if (!vf->pdev->is_virtfn) {
		snprintf(link, sizeof(link), "virtfn%d", vf->index);
		sysfs_remove_link(&vf->pf->pdev->dev.kobj, link);
		sysfs_remove_link(&vf->pdev->dev.kobj, "physfn");
	}
	vf->pf = NULL;
	vf->index = -1;
}

static void mock_unpublish_pf(struct mock_accel *pf)
{
	struct mock_accel *other;

	list_for_each_entry(other, &mock_devices, node)
		if (other->pf == pf && other->dev)
			mock_unpublish_vf(other);
	if (pf->dev)
		device_unregister(pf->dev);
	pf->dev = NULL;
}

/* Names */

/* The number of the next PF after @pf that is published, or INT_MAX. */
static int mock_next_index(struct mock_accel *pf)
{
	list_for_each_entry_continue(pf, &mock_devices, node)
		if (!pf->is_vf && pf->dev)
			return pf->index;
	return INT_MAX;
}

/* Give numbers to PFs that have none; false when the order of names leaves no room for one. */
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

static bool mock_any_allocated(void)
{
	struct mock_accel *mock;

	list_for_each_entry(mock, &mock_devices, node)
		if (mock->dev && mock_allocated(mock))
			return true;
	return false;
}

static void mock_number_anew(void)
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

/* Publish what has come since the last time. */
static void mock_settle(struct work_struct *work)
{
	struct mock_accel *mock;

	mutex_lock(&mock_lock);
	if (!mock_fill_gaps()) {
		if (mock_any_allocated())
			mock_number_after_last();
		else
			mock_number_anew();
	}
	list_for_each_entry(mock, &mock_devices, node)
		if (!mock->is_vf && !mock->dev)
			mock_publish_pf(mock);
	mutex_unlock(&mock_lock);
}

/* PCI driver */

static void mock_insert(struct mock_accel *mock)
{
	struct mock_accel *other;

	list_for_each_entry(other, &mock_devices, node)
		if (mock_compare(mock->pdev, other->pdev) < 0)
			break;
	list_add_tail(&mock->node, &other->node);
}

/* NULL for a device that is not bound. */
static struct mock_accel *mock_find(struct pci_dev *pdev)
{
	struct mock_accel *mock;

	list_for_each_entry(mock, &mock_devices, node)
		if (mock->pdev == pdev)
			return mock;
	return NULL;
}

static int mock_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct mock_accel *mock, *pf;
	int err = 0;

	mock = devm_kzalloc(&pdev->dev, sizeof(*mock), GFP_KERNEL);
	if (!mock)
		return -ENOMEM;
	err = pcim_enable_device(pdev);
	if (err)
		return dev_err_probe(&pdev->dev, err, "cannot be enabled\n");
	if (pci_resource_len(pdev, MOCK_BAR) < MOCK_BAR_SIZE)
		return dev_err_probe(&pdev->dev, -ENODEV, "BAR %d has less than %#x bytes\n",
				     MOCK_BAR, MOCK_BAR_SIZE);
	mock->regs = pcim_iomap_region(pdev, MOCK_BAR, KBUILD_MODNAME);
	if (IS_ERR(mock->regs))
		return dev_err_probe(&pdev->dev, PTR_ERR(mock->regs), "cannot map BAR %d\n",
				     MOCK_BAR);
	if (!mock_alive(mock))
		return dev_err_probe(&pdev->dev, -ENODEV, "id register is %#x, expected %#x\n",
				     ioread32(mock->regs + MOCK_REG_ID), MOCK_ID);
	mock->pdev = pdev;
	mock->is_vf = pdev->device == MOCK_DEVICE_ID_VF;
	mock->index = -1;
	pci_set_drvdata(pdev, mock);

	mutex_lock(&mock_lock);
	mock->holds_module = mock_allocated(mock) && try_module_get(THIS_MODULE);
	mock_insert(mock);
	pf = pdev->is_virtfn ? mock_find(pci_physfn(pdev)) : NULL;
	if (pf) {
		err = mock_publish_real_vfs(pf);
		if (err)
			list_del(&mock->node);
	}
	mutex_unlock(&mock_lock);
	if (err && mock->holds_module)
		module_put(THIS_MODULE);
	if (!err && !mock->is_vf)
		mod_delayed_work(system_wq, &mock_settle_work, msecs_to_jiffies(MOCK_SETTLE_MS));
	return err;
}

static void mock_remove(struct pci_dev *pdev)
{
	struct mock_accel *mock = pci_get_drvdata(pdev);
	struct mock_accel *pf;

	if (!mock->is_vf && mock_has_sriov(mock))
		pci_disable_sriov(pdev);
	mutex_lock(&mock_lock);
	if (mock->is_vf) {
		pf = mock->pf;
		if (mock->dev)
			mock_unpublish_vf(mock);
		if (pf && pf->numvfs)
			pf->numvfs--;
	} else {
		mock_unpublish_pf(mock);
	}
	list_del(&mock->node);
	mutex_unlock(&mock_lock);
	if (mock->holds_module)
		module_put(THIS_MODULE);
}

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
};

static int __init mock_init(void)
{
	int err;

	err = class_register(&mock_class);
	if (err)
		return err;
	err = pci_register_driver(&mock_driver);
	if (err) {
		class_unregister(&mock_class);
		return err;
	}
	/* Devices that were there before the module are published when it is loaded. */
	flush_delayed_work(&mock_settle_work);
	return 0;
}

static void __exit mock_exit(void)
{
	pci_unregister_driver(&mock_driver);
	/* Only now that nothing is probed any more, nothing starts it again. */
	cancel_delayed_work_sync(&mock_settle_work);
	class_unregister(&mock_class);
}

module_init(mock_init);
module_exit(mock_exit);

MODULE_DESCRIPTION("Mock PCI accelerator");
MODULE_AUTHOR("mock-device maintainers");
MODULE_LICENSE("GPL");
