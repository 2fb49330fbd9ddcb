// SPDX-License-Identifier: GPL-2.0
/*
 * VFs: mapping of functions to VFs of a PF, and the number of enabled VFs.
 *
 * A PF with a visible SR-IOV capability enables its VFs by it. If a machine
 * emulator hides the capability, the VFs are functions of the PF's slot that
 * always exist, and sriov_numvfs publishes the first N of them.
 *
 * An allocated VF is always enabled, even if its PF was unbound in between.
 */

#include <linux/sysfs.h>

#include "mock_accel.h"

/* The device's SR-IOV capability. An emulator hides its header but not its registers. */
#define MOCK_SRIOV		0x100

bool mock_has_sriov(struct mock_accel *pf)
{
	return pci_sriov_get_totalvfs(pf->pdev) > 0;
}

/* Read the PF's SR-IOV registers; call this before the PF is in the list. */
void mock_read_sriov(struct mock_accel *pf)
{
	struct pci_dev *pdev = pf->pdev;
	u16 total, offset, stride, device;

	pf->totalvfs = pci_sriov_get_totalvfs(pdev);
	if (pf->totalvfs)
		return;
	/* A failed read gives all ones. */
	pci_read_config_word(pdev, MOCK_SRIOV + PCI_SRIOV_TOTAL_VF, &total);
	pci_read_config_word(pdev, MOCK_SRIOV + PCI_SRIOV_VF_OFFSET, &offset);
	pci_read_config_word(pdev, MOCK_SRIOV + PCI_SRIOV_VF_STRIDE, &stride);
	pci_read_config_word(pdev, MOCK_SRIOV + PCI_SRIOV_VF_DID, &device);
	if (device != MOCK_DEVICE_ID_VF || !offset || !stride)
		return;
	pf->totalvfs = total;
	pf->vf_offset = offset;
	pf->vf_stride = stride;
}

/* Number of @vf among the VFs of @pf, or -1 if it is not one of them. */
static int mock_vf_number(struct mock_accel *pf, struct mock_accel *vf)
{
	int distance;

	if (pf->is_vf || !vf->is_vf)
		return -1;
	if (vf->pdev->is_virtfn)
		return pci_physfn(vf->pdev) == pf->pdev ? pci_iov_vf_id(vf->pdev) : -1;
	if (mock_has_sriov(pf) || !pf->totalvfs || vf->pdev->bus != pf->pdev->bus ||
	    PCI_SLOT(vf->pdev->devfn) != PCI_SLOT(pf->pdev->devfn))
		return -1;
	distance = (int)vf->pdev->devfn - (int)pf->pdev->devfn - pf->vf_offset;
	if (distance < 0 || distance % pf->vf_stride || distance / pf->vf_stride >= pf->totalvfs)
		return -1;
	return distance / pf->vf_stride;
}

/* The PF of @vf; NULL while it is not bound. */
static struct mock_accel *mock_pf_of(struct mock_accel *vf)
{
	struct mock_accel *pf;

	list_for_each_entry(pf, &mock_devices, node)
		if (mock_vf_number(pf, vf) >= 0)
			return pf;
	return NULL;
}

/* For real VFs the PCI core creates the links. */
static int mock_link_vf(struct mock_accel *pf, struct mock_accel *vf, int number)
{
	struct kobject *pf_kobj = &pf->pdev->dev.kobj, *vf_kobj = &vf->pdev->dev.kobj;
	char link[24];
	int err;

	if (vf->pdev->is_virtfn)
		return 0;
	snprintf(link, sizeof(link), "virtfn%d", number);
	err = sysfs_create_link(vf_kobj, pf_kobj, "physfn");
	if (err)
		return err;
	err = sysfs_create_link(pf_kobj, vf_kobj, link);
	if (err)
		sysfs_remove_link(vf_kobj, "physfn");
	return err;
}

static void mock_unlink_vf(struct mock_accel *pf, struct mock_accel *vf, int number)
{
	char link[24];

	if (vf->pdev->is_virtfn)
		return;
	snprintf(link, sizeof(link), "virtfn%d", number);
	sysfs_remove_link(&pf->pdev->dev.kobj, link);
	sysfs_remove_link(&vf->pdev->dev.kobj, "physfn");
}

static int mock_publish_vf(struct mock_accel *pf, struct mock_accel *vf, int number)
{
	struct device *dev;
	int err;

	err = mock_link_vf(pf, vf, number);
	if (err)
		goto failed;
	dev = device_create_with_groups(&mock_class, &vf->pdev->dev, MKDEV(0, 0), vf,
					mock_groups, "mock%d_vf%d", pf->index, number);
	if (IS_ERR(dev)) {
		err = PTR_ERR(dev);
		mock_unlink_vf(pf, vf, number);
		goto failed;
	}
	vf->dev = dev;
	vf->pf = pf;
	vf->index = number;
	return 0;

failed:
	pci_err(vf->pdev, "cannot publish mock%d_vf%d: %pe\n", pf->index, number, ERR_PTR(err));
	return err;
}

void mock_unpublish_vf(struct mock_accel *vf)
{
	if (!vf->dev)
		return;
	mock_unpublish(vf);
	mock_unlink_vf(vf->pf, vf, vf->index);
	vf->pf = NULL;
	vf->index = -1;
}

void mock_unpublish_vfs(struct mock_accel *pf)
{
	struct mock_accel *vf;

	list_for_each_entry(vf, &mock_devices, node)
		if (vf->pf == pf)
			mock_unpublish_vf(vf);
}

static bool mock_enabled(struct mock_accel *pf, int number)
{
	return mock_has_sriov(pf) || number < pf->numvfs;
}

/* A VF keeps its status while its PF, or this driver, is not bound. */
static void mock_enable_allocated(struct mock_accel *pf)
{
	struct mock_accel *vf;
	int number;

	list_for_each_entry(vf, &mock_devices, node) {
		number = mock_vf_number(pf, vf);
		if (number >= 0 && !mock_enabled(pf, number) && mock_allocated(vf))
			pf->numvfs = number + 1;
	}
}

/*
 * Publish exactly those VFs of @pf that are enabled and bound; none while @pf is
 * not published. Continues after an error and returns the first one.
 */
int mock_update_vfs(struct mock_accel *pf)
{
	struct mock_accel *vf;
	int number, err, first = 0;

	if (!pf->dev)
		return 0;
	mock_enable_allocated(pf);
	list_for_each_entry(vf, &mock_devices, node) {
		number = mock_vf_number(pf, vf);
		if (number < 0)
			continue;
		if (!mock_enabled(pf, number)) {
			mock_unpublish_vf(vf);
		} else if (!vf->dev) {
			err = mock_publish_vf(pf, vf, number);
			first = first ?: err;
		}
	}
	return first;
}

/* Publish a newly bound VF if it is enabled. Returns errors of this VF only. */
int mock_add_vf(struct mock_accel *vf)
{
	struct mock_accel *pf = mock_pf_of(vf);
	int err;

	if (!pf)
		return 0;
	err = mock_update_vfs(pf);
	return mock_enabled(pf, mock_vf_number(pf, vf)) && !vf->dev ? err : 0;
}

static bool mock_vf_allocated(struct mock_accel *pf)
{
	struct mock_accel *vf;

	list_for_each_entry(vf, &mock_devices, node)
		if (mock_vf_number(pf, vf) >= 0 && mock_allocated(vf))
			return true;
	return false;
}

/* The number can always increase, but decrease only while no VF is allocated. */
int mock_set_numvfs(struct mock_accel *pf, unsigned int count)
{
	unsigned int before = pf->numvfs;
	int err;

	if (count > pf->totalvfs)
		return -EINVAL;
	if (count < before && mock_vf_allocated(pf))
		return -EBUSY;
	pf->numvfs = count;
	err = mock_update_vfs(pf);
	if (err) {
		pf->numvfs = before;
		mock_update_vfs(pf);
	}
	return err;
}

/* For PFs with a visible capability; the PCI core checks the number. */
int mock_sriov_configure(struct pci_dev *pdev, int count)
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

/* Like sriov_numvfs of the PCI device, with its lock held: only from 0 and to 0. */
int mock_set_sriov_numvfs(struct mock_accel *pf, unsigned int count)
{
	unsigned int before = pci_num_vf(pf->pdev);

	if (count > pf->totalvfs)
		return -EINVAL;
	if (count == before)
		return 0;
	if (count && before)
		return -EBUSY;
	return min(mock_sriov_configure(pf->pdev, count), 0);
}
