// SPDX-License-Identifier: GPL-2.0
/* The command ring of a device: its registers, and the firmware without which it does not run. */

#include <linux/dma-mapping.h>
#include <linux/firmware.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/sizes.h>

#include "jobs.h"

#define MOCK_FIRMWARE_MAX	SZ_1M
#define MOCK_STOP_POLL_US	200
#define MOCK_STOP_US		USEC_PER_SEC

MODULE_FIRMWARE(MOCK_FIRMWARE);

static void mock_write64(struct mock_accel *mock, unsigned int reg, u64 value)
{
	iowrite32(lower_32_bits(value), mock->regs + reg);
	iowrite32(upper_32_bits(value), mock->regs + reg + 4);
}

/* The device reads the image before it answers the write of the command. */
static int mock_load_image(struct mock_accel *mock, const struct firmware *image)
{
	struct device *dev = &mock->pdev->dev;
	dma_addr_t address;
	void *copy;
	u32 status;

	if (!image->size || image->size > MOCK_FIRMWARE_MAX)
		return -EFBIG;
	copy = dma_alloc_coherent(dev, image->size, &address, GFP_KERNEL);
	if (!copy) {
		pci_err(mock->pdev, "has no memory for firmware %s\n", MOCK_FIRMWARE);
		return -ENOMEM;
	}
	memcpy(copy, image->data, image->size);
	mock_write64(mock, MOCK_REG_FIRMWARE_ADDRESS, address);
	iowrite32(image->size, mock->regs + MOCK_REG_FIRMWARE_SIZE);
	iowrite32(1, mock->regs + MOCK_REG_FIRMWARE_COMMAND);
	status = ioread32(mock->regs + MOCK_REG_FIRMWARE_STATUS);
	dma_free_coherent(dev, image->size, copy, address);
	if (status == MOCK_FIRMWARE_LOADED)
		return 0;
	pci_err(mock->pdev, "refuses firmware %s: status %u\n", MOCK_FIRMWARE, status);
	return -EINVAL;
}

/*
 * Read the firmware, which is the same for all devices; NULL if there is none.
 * That may take long: call this without locks, but keep @pdev bound. The caller
 * releases the image.
 */
const struct firmware *mock_firmware_read(struct pci_dev *pdev)
{
	const struct firmware *image;
	int err;

	err = firmware_request_nowarn(&image, MOCK_FIRMWARE, &pdev->dev);
	if (!err)
		return image;
	pci_warn(pdev, "has no firmware %s, and runs no jobs: %pe\n", MOCK_FIRMWARE,
		 ERR_PTR(err));
	return NULL;
}

static void mock_ring_put(struct mock_accel *mock, struct mock_job *job)
{
	struct mock_descriptor *descriptor = &mock->ring[mock->tail];

	job->slot = mock->tail;
	job->descriptor.status = 0;
	*descriptor = job->descriptor;
	mock->tail = (mock->tail + 1) % MOCK_RING_SIZE;
}

/* The doorbell must not be written before the descriptors; iowrite32() orders that. */
static void mock_ring_doorbell(struct mock_accel *mock)
{
	iowrite32(mock->tail, mock->regs + MOCK_REG_RING_TAIL);
}

/* Let the stopped device process all waiting jobs, from the first on. */
void mock_ring_run(struct mock_accel *mock)
{
	struct mock_job *job;

	mock->tail = 0;
	iowrite32(MOCK_CONTROL_RUN, mock->regs + MOCK_REG_CONTROL);
	list_for_each_entry(job, &mock->queue, in_queue)
		mock_ring_put(mock, job);
	if (mock->tail)
		mock_ring_doorbell(mock);
}

void mock_ring_add(struct mock_accel *mock, struct mock_job *job)
{
	mock_ring_put(mock, job);
	mock_ring_doorbell(mock);
}

/* After this the device does not access memory; the job that ran is abandoned. */
int mock_ring_stop(struct mock_accel *mock)
{
	u32 state;

	iowrite32(0, mock->regs + MOCK_REG_CONTROL);
	/* A device that is gone (all ones) does not access memory, either. */
	return read_poll_timeout(ioread32, state,
				 state == MOCK_DEAD || !(state & MOCK_STATE_RUNNING),
				 MOCK_STOP_POLL_US, MOCK_STOP_US, false,
				 mock->regs + MOCK_REG_STATE);
}

/* After power on and resets: load the firmware @image, if any, write all registers, run. */
int mock_ring_start(struct mock_accel *mock, const struct firmware *image)
{
	u32 state;
	int err;

	mock->ready = false;
	iowrite32(mock->job_limit, mock->regs + MOCK_REG_JOB_LIMIT);
	iowrite32(mock->window_limit, mock->regs + MOCK_REG_WINDOW_LIMIT);
	err = image ? mock_load_image(mock, image) : -ENOENT;
	mock->has_firmware = !err;
	if (err)
		return err;
	mock_write64(mock, MOCK_REG_RING_BASE, mock->ring_dma);
	iowrite32(MOCK_RING_SIZE, mock->regs + MOCK_REG_RING_SIZE);
	mock_ring_run(mock);
	state = ioread32(mock->regs + MOCK_REG_STATE);
	if (state == MOCK_DEAD || !(state & MOCK_STATE_RUNNING)) {
		pci_err(mock->pdev, "does not run: state %#x, error %u\n", state,
			ioread32(mock->regs + MOCK_REG_ERROR));
		return -EIO;
	}
	mock->ready = true;
	return 0;
}
