// SPDX-License-Identifier: GPL-2.0
/* The window of a device, its memory, in the address space of a process. */

#include <linux/fs.h>
#include <linux/mm.h>

#include "jobs.h"

#ifdef MOCK_HAS_VM_FLAGS_SET
#define mock_vm_flags_set(vma, flags) vm_flags_set(vma, flags)
#else
#define mock_vm_flags_set(vma, flags) ((vma)->vm_flags |= (flags))
#endif

/*
 * Pages are mapped at the first access: then the mapping is known to the file,
 * so that mock_unmap_windows() finds it, also if the device goes away now.
 *
 * The address space of the process is locked, so nothing here may wait for the
 * device: jobs_lock is held while it stops or loads its firmware.
 */
static vm_fault_t mock_window_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct mock_file *file = vma->vm_file->private_data;
	struct mock_accel *mock = file->mock;
	vm_fault_t result = VM_FAULT_SIGBUS;
	unsigned long address, pfn;
	resource_size_t start;

	if (!down_read_trylock(&mock->present))
		return VM_FAULT_SIGBUS;
	if (READ_ONCE(mock->gone) || !mock_share_hold(file->share))
		goto up;
	mock_file_window(file, &start);
	start += pci_resource_start(mock->pdev, MOCK_WINDOW_BAR);
	pfn = (start >> PAGE_SHIFT) + vma->vm_pgoff;
	for (address = vma->vm_start; address < vma->vm_end; address += PAGE_SIZE) {
		result = vmf_insert_pfn(vma, address, pfn++);
		if (result != VM_FAULT_NOPAGE)
			break;
	}
	mock_share_let_go(file->share);
up:
	up_read(&mock->present);
	return result;
}

static const struct vm_operations_struct mock_window_ops = {
	.fault = mock_window_fault,
};

int mock_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct mock_file *file = filp->private_data;
	struct mock_accel *mock = file->mock;
	unsigned long pages = vma_pages(vma);
	resource_size_t limit, start;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (READ_ONCE(mock->gone))
		return -EIO;
	if (file->share && READ_ONCE(file->share->removed))
		return -ENODEV;
	limit = mock_file_window(file, &start) >> PAGE_SHIFT;
	if (vma->vm_pgoff > limit || pages > limit - vma->vm_pgoff)
		return -EINVAL;
	mock_vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
	vma->vm_ops = &mock_window_ops;
	return 0;
}

/* The device goes away: later accesses give SIGBUS. */
void mock_unmap_windows(struct mock_accel *mock)
{
	struct mock_file *file;

	list_for_each_entry(file, &mock->files, node)
		unmap_mapping_range(file->filp->f_mapping, 0, 0, 1);
}
