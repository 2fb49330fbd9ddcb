// SPDX-License-Identifier: GPL-2.0
/* User memory of jobs: pinned while the job is in the ring, and mapped for the device. */

#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "jobs.h"

/* Give the device a list, unless the memory is contiguous for it. */
static int mock_buffer_list(struct device *dev, struct mock_buffer *buffer)
{
	struct scatterlist *sg;
	unsigned int i;

	if (buffer->table.nents == 1) {
		buffer->address = sg_dma_address(buffer->table.sgl);
		return 0;
	}
	buffer->size = buffer->table.nents * sizeof(*buffer->segments);
	buffer->segments = dma_alloc_coherent(dev, buffer->size, &buffer->address, GFP_KERNEL);
	if (!buffer->segments)
		return -ENOMEM;
	for_each_sgtable_dma_sg(&buffer->table, sg, i) {
		buffer->segments[i].address = cpu_to_le64(sg_dma_address(sg));
		buffer->segments[i].length = cpu_to_le32(sg_dma_len(sg));
	}
	return 0;
}

/* The largest segment that can be mapped for the device, in bytes. */
static unsigned int mock_segment_size(struct device *dev)
{
	size_t most = min_t(size_t, dma_max_mapping_size(dev), dma_get_max_seg_size(dev));

	return max_t(unsigned int, rounddown(most, PAGE_SIZE), PAGE_SIZE);
}

/*
 * A job may take a minute: such a pin must not hold pages that the kernel needs
 * to move, hence FOLL_LONGTERM.
 */
int mock_buffer_pin(struct device *dev, struct mock_buffer *buffer, u64 start, size_t length,
		    enum dma_data_direction direction)
{
	unsigned int offset = offset_in_page(start), flags = FOLL_LONGTERM, count;
	int pinned, err;

	if (start != (unsigned long)start || start + length < start)
		return -EFAULT;
	count = DIV_ROUND_UP(offset + length, PAGE_SIZE);
	buffer->pages = kvmalloc_array(count, sizeof(*buffer->pages), GFP_KERNEL_ACCOUNT);
	if (!buffer->pages)
		return -ENOMEM;
	buffer->direction = direction;
	if (direction == DMA_FROM_DEVICE)
		flags |= FOLL_WRITE;
	pinned = pin_user_pages_fast(start & PAGE_MASK, count, flags, buffer->pages);
	if (pinned > 0)
		buffer->count = pinned;
	if (pinned < 0 || pinned < count) {
		err = pinned < 0 ? pinned : -EFAULT;
		goto release;
	}
	/* Bounce buffers are short. */
	err = sg_alloc_table_from_pages_segment(&buffer->table, buffer->pages, count, offset,
						length, mock_segment_size(dev), GFP_KERNEL_ACCOUNT);
	if (err)
		goto release;
	err = dma_map_sgtable(dev, &buffer->table, direction, 0);
	if (err)
		goto release;
	buffer->mapped = true;
	err = mock_buffer_list(dev, buffer);
	if (err)
		goto release;
	return 0;

release:
	mock_buffer_release(dev, buffer);
	return err;
}

/* Also of a buffer that was not or not wholly pinned. The device must not use it any more. */
void mock_buffer_release(struct device *dev, struct mock_buffer *buffer)
{
	if (buffer->segments)
		dma_free_coherent(dev, buffer->size, buffer->segments, buffer->address);
	if (buffer->mapped)
		dma_unmap_sgtable(dev, &buffer->table, buffer->direction, 0);
	sg_free_table(&buffer->table);
	if (buffer->count)
		unpin_user_pages_dirty_lock(buffer->pages, buffer->count,
					    buffer->direction == DMA_FROM_DEVICE);
	kvfree(buffer->pages);
	memset(buffer, 0, sizeof(*buffer));
}
