// SPDX-License-Identifier: GPL-2.0
/*
 * Configuration space of a slot with PFs and VFs, as hardware has it.
 *
 * QEMU hides the header of a vfio-user device's SR-IOV capability, but not the
 * registers behind it, and its VFs are functions that always respond. Here the
 * capability has its header, VFs respond while VF Enable is set, their BARs are
 * in the VF BARs of the PF, and they are reset when they are disabled (PCI
 * Express Base Specification 5.0, 9.3.3 and 9.3.4).
 */

#include "sriov_bus.h"
#include "mock_accel.h"

#define MOCK_SRIOV_HEADER	(PCI_EXT_CAP_ID_SRIOV | 1 << 16)
#define MOCK_MAX_CAPABILITIES	48

static u32 mock_get(struct mock_bus *mb, unsigned int devfn, int where, int size)
{
	u32 val;

	if (mb->orig->read(mb->bus, devfn, where, size, &val))
		val = ~0;
	return val & GENMASK(size * 8 - 1, 0);
}

static void mock_put(struct mock_bus *mb, unsigned int devfn, int where, int size, u32 val)
{
	mb->orig->write(mb->bus, devfn, where, size, val);
}

static u8 mock_find_express(struct mock_bus *mb, unsigned int devfn)
{
	unsigned int left = MOCK_MAX_CAPABILITIES, id;
	u8 pos = mock_get(mb, devfn, PCI_CAPABILITY_LIST, 1) & ~3;

	for (; left && pos >= PCI_STD_HEADER_SIZEOF; left--) {
		id = mock_get(mb, devfn, pos + PCI_CAP_LIST_ID, 1);
		if (id == PCI_CAP_ID_EXP)
			return pos;
		if (id == 0xff)
			break;
		pos = mock_get(mb, devfn, pos + PCI_CAP_LIST_NEXT, 1) & ~3;
	}
	return 0;
}

/*
 * Find out whether a function, which is not a VF, is a PF with a hidden
 * capability. A known one stays known until it is removed, see above mock_read().
 */
static void mock_look(struct mock_bus *mb, unsigned int devfn, u32 id)
{
	struct mock_vf_range *pf = &mb->pfs[devfn];
	u16 total, offset, stride, device;

	if (id != (MOCK_DEVICE_ID_PF << 16 | MOCK_VENDOR_ID)) {
		pf->total = 0;
		return;
	}
	if (pf->total || mock_get(mb, devfn, MOCK_SRIOV, 2))
		return;
	total = mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_TOTAL_VF, 2);
	offset = mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_VF_OFFSET, 2);
	stride = mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_VF_STRIDE, 2);
	device = mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_VF_DID, 2);
	if (device != MOCK_DEVICE_ID_VF || !total || !offset || !stride ||
	    devfn + offset + (total - 1) * stride >= MOCK_FUNCTIONS)
		return;
	pf->total = total;
	pf->offset = offset;
	pf->stride = stride;
	pf->express = mock_find_express(mb, devfn);
	pf->enabled = 0;
	if (mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_CTRL, 2) & PCI_SRIOV_CTRL_VFE)
		pf->enabled = min_t(u16, total,
				    mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_NUM_VF, 2));
}

/* The PF of a VF, and the VF's number; NULL for other functions. */
static struct mock_vf_range *mock_owner(struct mock_bus *mb, unsigned int devfn, int *number)
{
	struct mock_vf_range *pf;
	unsigned int i;
	int distance;

	for (i = 0; i < devfn; i++) {
		pf = &mb->pfs[i];
		distance = (int)devfn - (int)i - pf->offset;
		if (!pf->total || distance < 0 || distance % pf->stride ||
		    distance / pf->stride >= pf->total)
			continue;
		*number = distance / pf->stride;
		return pf;
	}
	return NULL;
}

static unsigned int mock_vf_devfn(struct mock_bus *mb, struct mock_vf_range *pf,
				  unsigned int number)
{
	return pf - mb->pfs + pf->offset + number * pf->stride;
}

/* Move BAR number @bar of all enabled VFs into the VF BAR; returns the number of registers. */
static int mock_move_bar(struct mock_bus *mb, struct mock_vf_range *pf, int bar)
{
	unsigned int devfn = pf - mb->pfs, vf, i;
	int where = MOCK_SRIOV + PCI_SRIOV_BAR + 4 * bar;
	u32 low, mask, size;
	u64 address;
	bool wide;

	low = mock_get(mb, devfn, where, 4);
	mock_put(mb, devfn, where, 4, ~0);
	mask = mock_get(mb, devfn, where, 4);
	mock_put(mb, devfn, where, 4, low);
	wide = (mask & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
	mask &= PCI_BASE_ADDRESS_MEM_MASK;
	if (!mask)
		return 1;
	size = ~mask + 1;
	address = low & PCI_BASE_ADDRESS_MEM_MASK;
	if (wide)
		address |= (u64)mock_get(mb, devfn, where + 4, 4) << 32;
	for (i = 0; i < pf->enabled; i++, address += size) {
		vf = mock_vf_devfn(mb, pf, i);
		mock_put(mb, vf, PCI_BASE_ADDRESS_0 + 4 * bar, 4, lower_32_bits(address));
		if (wide)
			mock_put(mb, vf, PCI_BASE_ADDRESS_0 + 4 * bar + 4, 4,
				 upper_32_bits(address));
	}
	return wide ? 2 : 1;
}

static void mock_enable_vfs(struct mock_bus *mb, struct mock_vf_range *pf)
{
	unsigned int i;
	int bar;

	pf->enabled = min_t(u16, pf->total, mock_get(mb, pf - mb->pfs,
						     MOCK_SRIOV + PCI_SRIOV_NUM_VF, 2));
	for (bar = 0; bar < PCI_SRIOV_NUM_BARS;)
		bar += mock_move_bar(mb, pf, bar);
	for (i = 0; i < pf->enabled; i++)
		mock_put(mb, mock_vf_devfn(mb, pf, i), PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static void mock_disable_vfs(struct mock_bus *mb, struct mock_vf_range *pf)
{
	unsigned int devfn, i;
	u8 express;

	for (i = 0; i < pf->enabled; i++) {
		devfn = mock_vf_devfn(mb, pf, i);
		express = mock_find_express(mb, devfn);
		if (express)
			mock_put(mb, devfn, express + PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR);
		mock_put(mb, devfn, PCI_COMMAND, 2, 0);
	}
	pf->enabled = 0;
}

/* The byte that a write of @size bytes to @where has for register @reg, or -1. */
static int mock_written(int where, int size, u32 val, int reg)
{
	if (reg < where || reg >= where + size)
		return -1;
	return val >> 8 * (reg - where) & 0xff;
}

/*
 * React to a write to a PF: VF Enable, which was @before, and a reset, which
 * disables VFs. A device that had no power has VF Enable 0, and its VFs were
 * reset: then the PCI core writes 0 first, while it restores the VFs themselves.
 */
static void mock_pf_written(struct mock_bus *mb, struct mock_vf_range *pf, int where, int size,
			    u32 val, bool before)
{
	int control = mock_written(where, size, val, MOCK_SRIOV + PCI_SRIOV_CTRL);
	int reset = mock_written(where, size, val, pf->express + PCI_EXP_DEVCTL + 1);

	if (control >= 0 && control & PCI_SRIOV_CTRL_VFE && !pf->enabled)
		mock_enable_vfs(mb, pf);
	if ((control >= 0 && before && !(control & PCI_SRIOV_CTRL_VFE)) ||
	    (pf->express && reset >= 0 && reset & (PCI_EXP_DEVCTL_BCR_FLR >> 8)))
		mock_disable_vfs(mb, pf);
}

/* Learn what functions a bus has; call this before accesses pass through this driver. */
void mock_bus_look(struct mock_bus *mb, unsigned int devfn)
{
	int number;

	if (!mock_owner(mb, devfn, &number))
		mock_look(mb, devfn, mock_get(mb, devfn, PCI_VENDOR_ID, 4));
}

/* A function was removed: there may be another device in the slot soon. */
void mock_bus_forget(struct mock_bus *mb, unsigned int devfn)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&mb->lock, flags);
	mb->pfs[devfn].total = 0;
	raw_spin_unlock_irqrestore(&mb->lock, flags);
}

/*
 * After suspend to RAM the extended space reads zero, because QEMU's firmware
 * does not set it up again. The PCI core reads offset and stride of VFs in
 * resume, and with an offset of 0 it would take the PF for its VF.
 */
static int mock_read(struct mock_bus *mb, unsigned int devfn, int where, int size, u32 *val)
{
	struct mock_vf_range *pf;
	int number, err;

	pf = mock_owner(mb, devfn, &number);
	if (pf && number >= pf->enabled) {
		*val = ~0;
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
	if (pf && where < PCI_COMMAND) {
		/* VFs have no IDs. */
		*val = ~0;
		return PCIBIOS_SUCCESSFUL;
	}
	err = mb->orig->read(mb->bus, devfn, where, size, val);
	if (err || pf)
		return err;
	/* A scan of the bus begins with this. */
	if (where == PCI_VENDOR_ID && size == 4)
		mock_look(mb, devfn, *val);
	pf = &mb->pfs[devfn];
	if (!pf->total)
		return PCIBIOS_SUCCESSFUL;
	if ((where & ~3) == MOCK_SRIOV)
		*val |= MOCK_SRIOV_HEADER >> 8 * (where & 3) & GENMASK(size * 8 - 1, 0);
	if (where == MOCK_SRIOV + PCI_SRIOV_VF_OFFSET)
		*val = size == 4 ? pf->stride << 16 | pf->offset : pf->offset;
	if (where == MOCK_SRIOV + PCI_SRIOV_VF_STRIDE)
		*val = pf->stride;
	return PCIBIOS_SUCCESSFUL;
}

static int mock_write(struct mock_bus *mb, unsigned int devfn, int where, int size, u32 val)
{
	struct mock_vf_range *pf;
	bool before = false;
	int number, err;

	pf = mock_owner(mb, devfn, &number);
	if (pf && number >= pf->enabled)
		return PCIBIOS_DEVICE_NOT_FOUND;
	if (mock_written(where, size, val, MOCK_SRIOV + PCI_SRIOV_CTRL) >= 0)
		before = mock_get(mb, devfn, MOCK_SRIOV + PCI_SRIOV_CTRL, 2) & PCI_SRIOV_CTRL_VFE;
	/* The PF controls this bit of its VFs (VF MSE). */
	if (pf && where == PCI_COMMAND)
		val |= PCI_COMMAND_MEMORY;
	err = mb->orig->write(mb->bus, devfn, where, size, val);
	if (mb->pfs[devfn].total)
		mock_pf_written(mb, &mb->pfs[devfn], where, size, val, before);
	return err;
}

/* Buses below a slot inherit its operations. */
static bool mock_is_slot(struct mock_bus *mb, struct pci_bus *bus, unsigned int devfn)
{
	return mb->bus == bus && devfn < MOCK_FUNCTIONS;
}

int mock_bus_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	struct mock_bus *mb = mock_find_bus(bus);
	unsigned long flags;
	int err;

	if (!mock_is_slot(mb, bus, devfn))
		return mb->orig->read(bus, devfn, where, size, val);
	raw_spin_lock_irqsave(&mb->lock, flags);
	err = mock_read(mb, devfn, where, size, val);
	raw_spin_unlock_irqrestore(&mb->lock, flags);
	return err;
}

int mock_bus_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	struct mock_bus *mb = mock_find_bus(bus);
	unsigned long flags;
	int err;

	if (!mock_is_slot(mb, bus, devfn))
		return mb->orig->write(bus, devfn, where, size, val);
	raw_spin_lock_irqsave(&mb->lock, flags);
	err = mock_write(mb, devfn, where, size, val);
	raw_spin_unlock_irqrestore(&mb->lock, flags);
	return err;
}
