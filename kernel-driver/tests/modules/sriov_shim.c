// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: makes the SR-IOV capability of mock accelerators, which QEMU hides
 * from its guest, visible and functional.
 *
 * Intercepts configuration accesses on the buses of all PFs that exist when it
 * is loaded: the capability has its header; VFs are invisible until they are
 * enabled, have no IDs of their own, and are reset when they are disabled. The
 * module cannot be unloaded.
 */

#include <linux/module.h>
#include <linux/pci.h>

#define SHIM_SRIOV	0x100
#define SHIM_DEVCTL	(0x40 + PCI_EXP_DEVCTL)
#define SHIM_BAR_SIZE	4096
#define SHIM_MAX	16

struct shim {
	struct pci_bus *bus;
	struct pci_ops *orig;
	struct pci_ops ops;
	u16 total;
	bool on;
};

static struct shim shims[SHIM_MAX];
static unsigned int nshims;

static struct shim *shim_find(struct pci_bus *bus)
{
	unsigned int i;

	for (i = 0; i < nshims; i++)
		if (shims[i].bus == bus)
			return &shims[i];
	return NULL;
}

static bool shim_is_vf(struct shim *shim, unsigned int devfn)
{
	return PCI_FUNC(devfn) && PCI_FUNC(devfn) <= shim->total;
}

static int shim_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	struct shim *shim = shim_find(bus);
	int err;

	if (shim_is_vf(shim, devfn) && (!shim->on || where < PCI_COMMAND)) {
		*val = ~0;
		return shim->on ? PCIBIOS_SUCCESSFUL : PCIBIOS_DEVICE_NOT_FOUND;
	}
	err = shim->orig->read(bus, devfn, where, size, val);
	if (!err && !PCI_FUNC(devfn) && where == SHIM_SRIOV && size == 4)
		*val = PCI_EXT_CAP_ID_SRIOV | 1 << 16;
	return err;
}

static void shim_enable(struct shim *shim, bool on)
{
	unsigned int devfn;
	u32 base;

	shim->orig->read(shim->bus, 0, SHIM_SRIOV + PCI_SRIOV_BAR, 4, &base);
	base &= PCI_BASE_ADDRESS_MEM_MASK;
	for (devfn = 1; devfn <= shim->total; devfn++) {
		if (!on) {
			shim->orig->write(shim->bus, devfn, SHIM_DEVCTL, 2,
					  PCI_EXP_DEVCTL_BCR_FLR);
			continue;
		}
		shim->orig->write(shim->bus, devfn, PCI_BASE_ADDRESS_0, 4,
				  base + (devfn - 1) * SHIM_BAR_SIZE);
		shim->orig->write(shim->bus, devfn, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	}
	shim->on = on;
}

static int shim_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	struct shim *shim = shim_find(bus);
	int err;

	if (shim_is_vf(shim, devfn)) {
		if (!shim->on)
			return PCIBIOS_DEVICE_NOT_FOUND;
		/* The PF controls this bit (VF MSE). */
		if (where == PCI_COMMAND)
			val |= PCI_COMMAND_MEMORY;
	}
	err = shim->orig->write(bus, devfn, where, size, val);
	if (!PCI_FUNC(devfn) && where == SHIM_SRIOV + PCI_SRIOV_CTRL &&
	    !!(val & PCI_SRIOV_CTRL_VFE) != shim->on)
		shim_enable(shim, val & PCI_SRIOV_CTRL_VFE);
	return err;
}

static int __init shim_init(void)
{
	struct pci_dev *pf = NULL, *dev, *tmp;
	struct shim *shim;
	unsigned int i;
	u16 total;

	pci_lock_rescan_remove();
	while ((pf = pci_get_device(0x1de5, 0x0001, pf))) {
		pci_read_config_word(pf, SHIM_SRIOV + PCI_SRIOV_TOTAL_VF, &total);
		if (PCI_FUNC(pf->devfn) || !total || nshims == SHIM_MAX)
			continue;
		shim = &shims[nshims++];
		shim->bus = pf->bus;
		shim->total = total;
		shim->orig = pf->bus->ops;
		shim->ops = *shim->orig;
		shim->ops.read = shim_read;
		shim->ops.write = shim_write;
		pci_bus_set_ops(pf->bus, &shim->ops);
	}
	for (i = 0; i < nshims; i++) {
		list_for_each_entry_safe_reverse(dev, tmp, &shims[i].bus->devices, bus_list)
			pci_stop_and_remove_bus_device(dev);
		pci_rescan_bus(shims[i].bus);
	}
	pci_unlock_rescan_remove();
	return nshims ? 0 : -ENODEV;
}

module_init(shim_init);

MODULE_DESCRIPTION("Shows the SR-IOV capability of mock accelerators, for tests");
MODULE_LICENSE("GPL");
