// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes of the class mock-accel; ABI/testing/sysfs-class-mock-accel
 * describes them.
 *
 * Unpublishing holds the lock while it waits for running attribute methods, so
 * these must not wait for the lock, but restart the system call. The exception,
 * sriov_numvfs_store(), is one for which unpublishing does not wait.
 */

#include <linux/ctype.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/kstrtox.h>
#include <linux/sched/signal.h>

#include "mock_accel.h"

#define MOCK_RESET_POLL_MS	10

/* For waits that may take as long as a reset. */
static int mock_restart_later(void)
{
	msleep_interruptible(MOCK_RESET_POLL_MS);
	return restart_syscall();
}

/* Take the lock to access the device, which does not respond during a reset. */
static int mock_lock_registers(struct mock_accel *mock)
{
	if (!mutex_trylock(&mock_lock))
		return restart_syscall();
	if (!mock->resets)
		return 0;
	mutex_unlock(&mock_lock);
	return mock_restart_later();
}

static ssize_t uuid_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	char uuid[MOCK_UUID_SIZE + 1] = "";
	bool alive;
	int i, err;

	err = mock_lock_registers(mock);
	if (err)
		return err;
	memcpy_fromio(uuid, mock->regs + MOCK_REG_UUID, MOCK_UUID_SIZE);
	alive = mock_alive(mock);
	mutex_unlock(&mock_lock);
	if (!alive)
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
	u32 low, high;
	bool alive;
	int err;

	err = mock_lock_registers(mock);
	if (err)
		return err;
	low = ioread32(mock->regs + MOCK_REG_MEMORY);
	high = ioread32(mock->regs + MOCK_REG_MEMORY + 4);
	alive = mock_alive(mock);
	mutex_unlock(&mock_lock);
	if (!alive)
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
	u32 capabilities;
	bool alive;
	int err;

	err = mock_lock_registers(mock);
	if (err)
		return err;
	capabilities = ioread32(mock->regs + MOCK_REG_CAPABILITIES);
	alive = mock_alive(mock);
	mutex_unlock(&mock_lock);
	if (!alive)
		return -EIO;
	return sysfs_emit(buf, "0x%08x\n", capabilities);
}
static DEVICE_ATTR_RO(capabilities);

static ssize_t status_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u32 status;

	if (!mutex_trylock(&mock_lock))
		return restart_syscall();
	status = mock_status(dev_get_drvdata(dev));
	mutex_unlock(&mock_lock);
	if (status == MOCK_DEAD)
		return -EIO;
	return sysfs_emit(buf, "%u\n", status);
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
	err = mock_lock_registers(mock);
	if (err)
		return err;
	changed = mock_status(mock) != status;
	err = mock_alive(mock) ? mock_set_status(mock, status) : -EIO;
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

static const struct attribute_group mock_group = {
	.attrs = mock_attrs,
};

const struct attribute_group *mock_groups[] = {
	&mock_group,
	&mock_job_group,
	NULL
};

static ssize_t sriov_totalvfs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *pf = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d\n", pci_sriov_get_totalvfs(pf->pdev));
}
static DEVICE_ATTR_RO(sriov_totalvfs);

static ssize_t sriov_numvfs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *pf = dev_get_drvdata(dev);
	unsigned int number;

	/* Held to change the number, to unbind the driver and to reset the device. */
	if (!device_trylock(&pf->pdev->dev))
		return mock_restart_later();
	number = pci_num_vf(pf->pdev);
	device_unlock(&pf->pdev->dev);
	return sysfs_emit(buf, "%u\n", number);
}

/*
 * VFs take the lock when they are bound and removed. So this method gives up the
 * protection of its attribute from removal: otherwise whoever unpublishes the PF,
 * to give it another name, waits for this method with the lock held. The lock of
 * the PCI device keeps the PF bound; mock_sriov_exit() waits for the rest.
 */
static ssize_t sriov_numvfs_store(struct device *dev, struct device_attribute *attr,
				  const char *buf, size_t count)
{
	struct mock_accel *pf = dev_get_drvdata(dev);
	struct pci_dev *pdev = pf->pdev;
	struct kernfs_node *node;
	u32 number;
	int err;

	if (kstrtou32(buf, 10, &number))
		return -EINVAL;
	if (!device_trylock(&pdev->dev))
		return mock_restart_later();
	pci_dev_get(pdev);
	node = sysfs_break_active_protection(&dev->kobj, &attr->attr);
	err = node ? mock_set_numvfs(pf, number) : -ENODEV;
	if (node)
		sysfs_unbreak_active_protection(node);
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
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

const struct attribute_group *mock_pf_groups[] = {
	&mock_group,
	&mock_job_group,
	&mock_pf_group,
	NULL
};

/*
 * Containers get nodes by CDI, others by their administrator. Without a name from
 * here the driver core would make the node outside of the folder, and later not
 * find it to remove it.
 */
static char *mock_devnode(MOCK_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0600;
	return kasprintf(GFP_KERNEL | __GFP_NOFAIL, "mock-accel/%s", dev_name(dev));
}

/* Not const, because class_register() of Linux 6.1 writes to it. */
struct class mock_class = {
	.name = "mock-accel",
	.devnode = mock_devnode,
};
