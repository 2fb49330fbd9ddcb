// SPDX-License-Identifier: GPL-2.0
/*
 * Buses whose configuration accesses pass through sriov_config.c, so that the
 * PCI core finds the SR-IOV capability of PFs.
 *
 * These are buses with mock accelerators, and empty slots, so that the scan
 * after a hot-plug finds the capability at once. On any other bus a PF is
 * noticed when it is added, after the PCI core has looked for its capabilities.
 * Then, and if devices were there before this module, they are scanned again.
 */

#include <linux/notifier.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "sriov_bus.h"
#include "mock_accel.h"

/* Only this module's initialization and exit remove entries. */
static LIST_HEAD(mock_buses);
/* For changes of the list; taken inside the PCI rescan lock. */
static DEFINE_MUTEX(mock_buses_lock);

struct mock_bus *mock_find_bus(struct pci_bus *bus)
{
	struct mock_bus *mb, *found = NULL;

	rcu_read_lock();
	for (; bus && !found; bus = bus->parent)
		list_for_each_entry_rcu(mb, &mock_buses, node)
			if (mb->bus == bus)
				found = mb;
	rcu_read_unlock();
	return found;
}

static bool mock_is_attached(struct pci_bus *bus)
{
	struct mock_bus *mb = mock_find_bus(bus);

	return mb && mb->bus == bus;
}

/* Let accesses of @bus pass through this driver. */
static int mock_attach(struct pci_bus *bus)
{
	struct mock_bus *mb, *above;
	unsigned int devfn;
	int err = 0;

	mutex_lock(&mock_buses_lock);
	if (mock_is_attached(bus))
		goto unlock;
	mb = kzalloc(sizeof(*mb), GFP_KERNEL);
	if (!mb) {
		err = -ENOMEM;
		goto unlock;
	}
	/* A bus inherits the operations of the bus above it. */
	above = mock_find_bus(bus);
	mb->orig = above && bus->ops == &above->ops ? above->orig : bus->ops;
	mb->ops = *mb->orig;
	mb->ops.read = mock_bus_read;
	mb->ops.write = mock_bus_write;
	raw_spin_lock_init(&mb->lock);
	/* The bus may go away before this module. */
	get_device(&bus->dev);
	mb->bus = bus;
	for (devfn = 0; devfn < MOCK_FUNCTIONS; devfn++)
		mock_bus_look(mb, devfn);
	list_add_rcu(&mb->node, &mock_buses);
	pci_bus_set_ops(bus, &mb->ops);
unlock:
	mutex_unlock(&mock_buses_lock);
	return err;
}

/*
 * A PF whose capability the PCI core did not find, or a VF that it found as an
 * ordinary function. Only the slot of a port can be changed.
 */
bool mock_sriov_hidden(struct pci_dev *pdev)
{
	u16 header, total, device;

	if (!IS_ENABLED(CONFIG_PCI_IOV) || pdev->vendor != MOCK_VENDOR_ID || !pdev->bus->self ||
	    PCI_SLOT(pdev->devfn))
		return false;
	if (pdev->device == MOCK_DEVICE_ID_VF)
		return !pdev->is_virtfn;
	if (pdev->device != MOCK_DEVICE_ID_PF || pdev->is_physfn)
		return false;
	pci_read_config_word(pdev, MOCK_SRIOV, &header);
	pci_read_config_word(pdev, MOCK_SRIOV + PCI_SRIOV_TOTAL_VF, &total);
	pci_read_config_word(pdev, MOCK_SRIOV + PCI_SRIOV_VF_DID, &device);
	return (!header || header == PCI_EXT_CAP_ID_SRIOV) && total && device == MOCK_DEVICE_ID_VF;
}

/* Scan the slot again if devices were found as they are not; needs the PCI rescan lock. */
static void mock_scan_again(struct pci_bus *bus)
{
	struct pci_dev *pdev, *next;
	bool removed = false;

	list_for_each_entry_safe_reverse(pdev, next, &bus->devices, bus_list) {
		if (!mock_sriov_hidden(pdev))
			continue;
		if (pdev->driver) {
			pci_warn(pdev, "has no SR-IOV until %s releases it and it is scanned again\n",
				 pdev->driver->name);
			continue;
		}
		pci_stop_and_remove_bus_device(pdev);
		removed = true;
	}
	if (!removed)
		return;
	pci_scan_slot(bus, PCI_DEVFN(0, 0));
	pci_assign_unassigned_bridge_resources(bus->self);
	pcie_bus_configure_settings(bus);
	pci_bus_add_devices(bus);
}

static void mock_scan_work(struct work_struct *work)
{
	struct mock_bus *mb;

	pci_lock_rescan_remove();
	/* No entry goes away: exit waits for this work. */
	list_for_each_entry(mb, &mock_buses, node)
		mock_scan_again(mb->bus);
	pci_unlock_rescan_remove();
}

static DECLARE_WORK(mock_scan, mock_scan_work);

/*
 * A function is removed, or a PF is added on a bus that was not empty, or did
 * not exist, when the module was loaded.
 */
static int mock_bus_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);

	if (action == BUS_NOTIFY_REMOVED_DEVICE && pdev->devfn < MOCK_FUNCTIONS &&
	    mock_is_attached(pdev->bus))
		mock_bus_forget(mock_find_bus(pdev->bus), pdev->devfn);
	if (action != BUS_NOTIFY_ADD_DEVICE || pdev->device != MOCK_DEVICE_ID_PF ||
	    !mock_sriov_hidden(pdev) || mock_is_attached(pdev->bus))
		return NOTIFY_DONE;
	/* VFs are scanned after the PF, and not found any more. */
	if (mock_attach(pdev->bus))
		pci_err(pdev, "has no SR-IOV: out of memory\n");
	else
		schedule_work(&mock_scan);
	return NOTIFY_OK;
}

static struct notifier_block mock_bus_notifier = {
	.notifier_call = mock_bus_notify,
};

static bool mock_has_devices(struct pci_bus *bus)
{
	struct pci_dev *pdev;

	list_for_each_entry(pdev, &bus->devices, bus_list)
		if (pdev->vendor == MOCK_VENDOR_ID)
			return true;
	return false;
}

int mock_sriov_init(void)
{
	struct pci_dev *port = NULL;
	struct pci_bus *bus;
	int err;

	err = bus_register_notifier(&pci_bus_type, &mock_bus_notifier);
	if (err)
		return err;
	pci_lock_rescan_remove();
	while (!err && (port = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, port))) {
		bus = port->subordinate;
		if (!bus || !(mock_has_devices(bus) ||
			      (port->is_hotplug_bridge && list_empty(&bus->devices))))
			continue;
		err = mock_attach(bus);
		if (!err)
			mock_scan_again(bus);
	}
	pci_dev_put(port);
	pci_unlock_rescan_remove();
	if (err)
		mock_sriov_exit();
	return err;
}

/* Every bus whose operations are ours, those that inherited them included. */
static void mock_restore_ops(void)
{
	struct pci_dev *port = NULL;
	struct mock_bus *mb;

	pci_lock_rescan_remove();
	while ((port = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, port)))
		list_for_each_entry(mb, &mock_buses, node)
			if (port->subordinate && port->subordinate->ops == &mb->ops)
				pci_bus_set_ops(port->subordinate, mb->orig);
	pci_unlock_rescan_remove();
}

void mock_sriov_exit(void)
{
	struct mock_bus *mb, *next;

	bus_unregister_notifier(&pci_bus_type, &mock_bus_notifier);
	cancel_work_sync(&mock_scan);
	mock_restore_ops();
	/*
	 * Accesses may have begun with our operations: without a lock (x86 has
	 * PCI_LOCKLESS_CONFIG), but they never sleep. Nor does the end of
	 * sriov_numvfs_store(), whose attribute may have been removed.
	 */
	synchronize_rcu_tasks();
	list_for_each_entry_safe(mb, next, &mock_buses, node) {
		list_del(&mb->node);
		put_device(&mb->bus->dev);
		kfree(mb);
	}
}
