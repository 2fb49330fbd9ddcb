/* SPDX-License-Identifier: GPL-2.0 */
/* Declarations shared by the source files of the driver. */

#ifndef MOCK_ACCEL_H
#define MOCK_ACCEL_H

#include <linux/device.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rwsem.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "uapi/mock_accel_uapi.h"

#define MOCK_VENDOR_ID		0x1de5
#define MOCK_DEVICE_ID_PF	0x0001
#define MOCK_DEVICE_ID_VF	0x0002

#define MOCK_FIRMWARE		"mock-accel/mock-accel.fw"

#define MOCK_WINDOW_BAR			2
#define MOCK_BAR			0
#define MOCK_BAR_SIZE			0x1000
#define MOCK_REG_ID			0x00
#define MOCK_REG_REVISION		0x04
#define MOCK_REG_UUID			0x08
#define MOCK_REG_MEMORY			0x20
#define MOCK_REG_CAPABILITIES		0x28
#define MOCK_REG_STATUS			0x2c
#define MOCK_REG_CONTROL		0x30
#define MOCK_REG_STATE			0x34
#define MOCK_REG_ERROR			0x38
#define MOCK_REG_RING_BASE		0x40
#define MOCK_REG_RING_SIZE		0x48
#define MOCK_REG_RING_TAIL		0x50
#define MOCK_REG_JOBS			0x58
#define MOCK_REG_BYTES			0x60
#define MOCK_REG_JOBS_FAILED		0x68
#define MOCK_REG_TEMPERATURE		0x70
#define MOCK_REG_TEMPERATURE_LIMIT	0x74
#define MOCK_REG_JOB_LIMIT		0x78
#define MOCK_REG_WINDOW_LIMIT		0x7c
#define MOCK_REG_FIRMWARE_ADDRESS	0x80
#define MOCK_REG_FIRMWARE_SIZE		0x88
#define MOCK_REG_FIRMWARE_COMMAND	0x8c
#define MOCK_REG_FIRMWARE_STATUS	0x90
#define MOCK_REG_FIRMWARE_VERSION	0x94
#define MOCK_REG_EVENTS			0x98

#define MOCK_ID				0x4d4f434b
/* The oldest revision that runs jobs. */
#define MOCK_REVISION			0x00020000
#define MOCK_UUID_SIZE			16
#define MOCK_STATUS_FREE		0
#define MOCK_STATUS_ALLOCATED		1
#define MOCK_CONTROL_RUN		BIT(0)
#define MOCK_STATE_RUNNING		BIT(0)
#define MOCK_STATE_FIRMWARE		BIT(1)
#define MOCK_STATE_FATAL		BIT(2)
#define MOCK_STATE_HOT			BIT(3)
#define MOCK_FIRMWARE_LOADED		1
#define MOCK_EVENT_RING_ERROR		BIT(0)
#define MOCK_EVENT_FATAL		BIT(1)
#define MOCK_EVENT_CORRECTABLE		BIT(4)

/* Value of any register of a device that is gone. */
#define MOCK_DEAD		U32_MAX

struct firmware;
struct mock_descriptor;

/*
 * A bound function. mock_lock protects the fields up to jobs_lock that are not
 * marked as constant. jobs_lock, which is taken inside of it, protects those
 * that follow, and the registers of jobs. Open files have a reference.
 */
struct mock_accel {
	struct kref ref;
	struct list_head node;
	struct pci_dev *pdev;	/* constant */
	void __iomem *regs;	/* constant */
	struct device *dev;	/* class device; NULL while not published */
	int index;		/* number in the name of a PF; -1 for none */
	unsigned int resets;	/* number of running resets */
	u32 kept;		/* status before the running resets */
	bool is_vf;		/* constant */
	bool holds_module;	/* while allocated */
	int minor;		/* while published */
	void __iomem *window;	/* constant */
	resource_size_t window_size;	/* constant */
	struct mock_descriptor *ring;	/* constant */
	dma_addr_t ring_dma;	/* constant */
	int vectors;		/* constant */
	wait_queue_head_t wait;	/* for jobs that end, and room in the ring */
	struct rw_semaphore present;	/* held by those who use the device without jobs_lock */

	struct mutex jobs_lock;	/* protects what follows */
	char name[MOCK_NAME_LENGTH];	/* the last one */
	struct device *notify;	/* class device to tell changes of health */
	bool gone;		/* unbound: the hardware must not be used */
	bool resetting;
	bool ready;		/* the ring runs */
	bool has_firmware;	/* loaded by this driver since the last reset */
	bool hung;		/* from a time-out to the end of the reset */
	unsigned int hangs;
	unsigned int reset_tries;
	const char *health;
	u32 mode;
	u32 job_limit;		/* 0: none */
	u32 window_limit;	/* bytes; 0: none */
	u32 tail;		/* next free slot of the ring */
	struct list_head queue;	/* jobs in the ring, in its order */
	unsigned int queued;
	size_t pinned;		/* bytes, of these jobs and of those that wait for a slot */
	u64 last_job;		/* number */
	struct list_head files;	/* open */
	struct list_head shares;
	struct delayed_work timeout_work;
	struct delayed_work reset_work;
};

extern struct list_head mock_devices;
extern struct mutex mock_lock;

/* registers.c: need the lock, except mock_alive() */
bool mock_alive(struct mock_accel *mock);
u32 mock_status(struct mock_accel *mock);
bool mock_allocated(struct mock_accel *mock);
int mock_set_status(struct mock_accel *mock, u32 status);
void mock_reset_begins(struct mock_accel *mock);
void mock_reset_ends(struct mock_accel *mock, const struct firmware *image);

/* sysfs.c */
extern struct class mock_class;
extern const struct attribute_group mock_job_group;
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

/* ring.c */
const struct firmware *mock_firmware_read(struct pci_dev *pdev);

/* setup.c */
struct mock_accel *mock_alloc(struct pci_dev *pdev);
void mock_free(struct kref *ref);
int mock_jobs_setup(struct mock_accel *mock);
void mock_jobs_teardown(struct mock_accel *mock);
void mock_jobs_pause(struct mock_accel *mock);
void mock_jobs_resume(struct mock_accel *mock, const struct firmware *image);
void mock_reset_soon_locked(struct mock_accel *mock);
void mock_hung_locked(struct mock_accel *mock);

/* health.c: need jobs_lock */
void mock_health_locked(struct mock_accel *mock);
void mock_events_locked(struct mock_accel *mock);

/* shares.c: needs jobs_lock */
extern struct device_attribute dev_attr_shares;
void mock_shares_clear_locked(struct mock_accel *mock);

/* sysfs_jobs.c */
extern u32 mock_default_mode;
void mock_restore_defaults(struct mock_accel *mock);

/* chardev.c: the first two need the lock */
int mock_device_create(struct mock_accel *mock, const struct attribute_group **groups,
		       const char *name);
void mock_device_destroy(struct mock_accel *mock);
int mock_chardev_init(void);
void mock_chardev_exit(void);

/* window.c: mock_unmap_windows() needs jobs_lock */
int mock_mmap(struct file *filp, struct vm_area_struct *vma);
void mock_unmap_windows(struct mock_accel *mock);

/* names.c: mock_unpublish() and mock_unpublish_pf() need the lock, the others take it */
void mock_unpublish(struct mock_accel *mock);
void mock_unpublish_pf(struct mock_accel *pf);
void mock_publish_soon(void);
int mock_names_init(void);
void mock_names_flush(void);
void mock_names_exit(void);

#endif
