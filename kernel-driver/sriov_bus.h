/* SPDX-License-Identifier: GPL-2.0 */
/* A bus whose configuration accesses pass through this driver. */

#ifndef MOCK_SRIOV_BUS_H
#define MOCK_SRIOV_BUS_H

#include <linux/list.h>
#include <linux/pci.h>
#include <linux/spinlock.h>

/* The device's SR-IOV capability. */
#define MOCK_SRIOV		0x100

/* Functions of a slot; the devices do not support ARI. */
#define MOCK_FUNCTIONS		8

/* VFs of a PF whose capability an emulator hides. */
struct mock_vf_range {
	u16 total;	/* 0 for a function that is not such a PF */
	u16 offset;	/* functions from the PF to its first VF */
	u16 stride;	/* functions from a VF to the next */
	u16 enabled;	/* number of VFs that respond */
	u8 express;	/* offset of the PF's PCI Express capability */
};

struct mock_bus {
	struct list_head node;
	struct pci_bus *bus;
	struct pci_ops *orig;
	struct pci_ops ops;
	raw_spinlock_t lock;	/* serializes accesses, and protects pfs */
	struct mock_vf_range pfs[MOCK_FUNCTIONS];
};

/* sriov_bus.c: the entry of @bus, or of the nearest bus above it that has one */
struct mock_bus *mock_find_bus(struct pci_bus *bus);

/* sriov_config.c */
void mock_bus_look(struct mock_bus *mb, unsigned int devfn);
void mock_bus_forget(struct mock_bus *mb, unsigned int devfn);
int mock_bus_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val);
int mock_bus_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val);

#endif
