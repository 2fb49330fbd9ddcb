// SPDX-License-Identifier: GPL-2.0
/* VFs, which the PCI core creates: their publication, and how many are enabled. */

#include "mock_accel.h"

/* The PF of @vf; NULL while it is not bound to this driver. */
static struct mock_accel *mock_pf_of(struct mock_accel *vf)
{
	struct mock_accel *pf;

	list_for_each_entry(pf, &mock_devices, node)
		if (!pf->is_vf && pf->pdev == pci_physfn(vf->pdev))
			return pf;
	return NULL;
}

static bool mock_is_vf_of(struct mock_accel *vf, struct mock_accel *pf)
{
	return vf->is_vf && pci_physfn(vf->pdev) == pf->pdev;
}

static int mock_publish_vf(struct mock_accel *pf, struct mock_accel *vf)
{
	int number = pci_iov_vf_id(vf->pdev);
	char name[MOCK_NAME_LENGTH];

	snprintf(name, sizeof(name), "mock%d_vf%d", pf->index, number);
	return mock_device_create(vf, mock_groups, name);
}

void mock_unpublish_vf(struct mock_accel *vf)
{
	if (vf->dev)
		mock_unpublish(vf);
}

void mock_unpublish_vfs(struct mock_accel *pf)
{
	struct mock_accel *vf;

	list_for_each_entry(vf, &mock_devices, node)
		if (mock_is_vf_of(vf, pf))
			mock_unpublish_vf(vf);
}

/* Publish all bound VFs of @pf; errors are logged. */
void mock_publish_vfs(struct mock_accel *pf)
{
	struct mock_accel *vf;

	if (!pf->dev)
		return;
	list_for_each_entry(vf, &mock_devices, node)
		if (mock_is_vf_of(vf, pf) && !vf->dev)
			mock_publish_vf(pf, vf);
}

/* Publish a newly bound VF, if its PF is published. */
int mock_add_vf(struct mock_accel *vf)
{
	struct mock_accel *pf = mock_pf_of(vf);

	return pf && pf->dev ? mock_publish_vf(pf, vf) : 0;
}

static bool mock_vf_allocated(struct mock_accel *pf)
{
	struct mock_accel *vf;

	list_for_each_entry(vf, &mock_devices, node)
		if (mock_is_vf_of(vf, pf) && mock_allocated(vf))
			return true;
	return false;
}

/* The PCI core checks the number. */
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
int mock_set_numvfs(struct mock_accel *pf, unsigned int count)
{
	unsigned int before = pci_num_vf(pf->pdev);

	if (count > pci_sriov_get_totalvfs(pf->pdev))
		return -EINVAL;
	if (count == before)
		return 0;
	if (count && before)
		return -EBUSY;
	return min(mock_sriov_configure(pf->pdev, count), 0);
}
