/* SPDX-License-Identifier: GPL-2.0 */
/* Declarations shared by the source files of the driver. */

#ifndef MOCK_ACCEL_H
#define MOCK_ACCEL_H

#include <linux/device.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pci.h>

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

/* Value of any register of a device that is gone. */
#define MOCK_DEAD		U32_MAX

/* A bound function. mock_lock protects all fields that are not marked as constant. */
struct mock_accel {
	struct list_head node;
	struct pci_dev *pdev;	/* constant */
	void __iomem *regs;	/* constant */
	struct device *dev;	/* class device; NULL while not published */
	int index;		/* number in the name of a PF; -1 for none */
	unsigned int resets;	/* number of running resets */
	u32 kept;		/* status before the running resets */
	bool is_vf;		/* constant */
	bool holds_module;	/* while allocated */
};

extern struct list_head mock_devices;
extern struct mutex mock_lock;

/* registers.c: need the lock, except mock_alive() */
bool mock_alive(struct mock_accel *mock);
u32 mock_status(struct mock_accel *mock);
bool mock_allocated(struct mock_accel *mock);
int mock_set_status(struct mock_accel *mock, u32 status);
void mock_reset_begins(struct mock_accel *mock);
void mock_reset_ends(struct mock_accel *mock);

/* sysfs.c */
extern struct class mock_class;
extern const struct attribute_group *mock_groups[];
extern const struct attribute_group *mock_pf_groups[];

/* vfs.c: need the lock; the last two need that of the PCI device instead */
int mock_add_vf(struct mock_accel *vf);
void mock_publish_vfs(struct mock_accel *pf);
void mock_unpublish_vf(struct mock_accel *vf);
void mock_unpublish_vfs(struct mock_accel *pf);
int mock_set_numvfs(struct mock_accel *pf, unsigned int count);
int mock_sriov_configure(struct pci_dev *pdev, int count);

/* sriov_bus.c */
bool mock_sriov_hidden(struct pci_dev *pdev);
int mock_sriov_init(void);
void mock_sriov_exit(void);

/* names.c: mock_unpublish() and mock_unpublish_pf() need the lock, the others take it */
void mock_unpublish(struct mock_accel *mock);
void mock_unpublish_pf(struct mock_accel *pf);
void mock_publish_soon(void);
int mock_names_init(void);
void mock_names_flush(void);
void mock_names_exit(void);

#endif
