// SPDX-License-Identifier: GPL-2.0
/* What a bound function needs to run jobs: window, ring, interrupts; and how it ends. */

#include <linux/dma-mapping.h>
#include <linux/firmware.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/slab.h>

#include "jobs.h"

enum { MOCK_VECTOR_COMPLETION, MOCK_VECTOR_EVENTS, MOCK_VECTORS };

#define MOCK_RESET_RETRY_MS	20
#define MOCK_RESET_RETRIES	1500

/* With a single vector (MSI without interrupt remapping) it reports events, too. */
static irqreturn_t mock_completion(int irq, void *data)
{
	struct mock_accel *mock = data;

	mutex_lock(&mock->jobs_lock);
	if (!mock->resetting)
		mock_jobs_harvest_locked(mock);
	if (mock->vectors == 1)
		mock_events_locked(mock);
	mutex_unlock(&mock->jobs_lock);
	return IRQ_HANDLED;
}

static irqreturn_t mock_event(int irq, void *data)
{
	struct mock_accel *mock = data;

	mutex_lock(&mock->jobs_lock);
	mock_events_locked(mock);
	mutex_unlock(&mock->jobs_lock);
	return IRQ_HANDLED;
}

/*
 * A reset needs the lock of the PCI device, which remove() and others hold for
 * long: it is tried again and again. Its callbacks do all else.
 */
static void mock_reset_work(struct work_struct *work)
{
	struct mock_accel *mock = container_of(to_delayed_work(work), struct mock_accel,
					       reset_work);
	int err;

	err = pci_try_reset_function(mock->pdev);
	if (!err)
		return;
	mutex_lock(&mock->jobs_lock);
	/* Another reset may have ended meanwhile. */
	if (mock->gone || !mock->resetting)
		goto unlock;
	if (err == -EAGAIN && mock->reset_tries++ < MOCK_RESET_RETRIES) {
		queue_delayed_work(system_wq, &mock->reset_work,
				   msecs_to_jiffies(MOCK_RESET_RETRY_MS));
		goto unlock;
	}
	pci_err(mock->pdev, "cannot be reset: %pe\n", ERR_PTR(err));
	/* Without a reset only this stops its accesses to memory. */
	pci_clear_master(mock->pdev);
	mock->resetting = false;
	mock->ready = false;
	mock_jobs_end_all_locked(mock, -EIO);
	mock_health_locked(mock);
unlock:
	mutex_unlock(&mock->jobs_lock);
}

/* Needs jobs_lock. Until the reset has ended, no job is accepted. */
void mock_reset_soon_locked(struct mock_accel *mock)
{
	if (mock->gone)
		return;
	mock->resetting = true;
	mock->reset_tries = 0;
	mod_delayed_work(system_wq, &mock->reset_work, 0);
}

/* Needs jobs_lock. A job does not end in time: only a reset stops it. */
void mock_hung_locked(struct mock_accel *mock)
{
	pci_err(mock->pdev, "does not complete a job in time; it is reset\n");
	mock->hung = true;
	mock->hangs++;
	mock_reset_soon_locked(mock);
	mock_health_locked(mock);
}

/* A reset begins; it may not be one that this driver asked for. */
void mock_jobs_pause(struct mock_accel *mock)
{
	mutex_lock(&mock->jobs_lock);
	mock->resetting = true;
	if (!mock->hung)
		mock_ring_stop(mock);
	mutex_unlock(&mock->jobs_lock);
}

/* The reset has ended: the device does not access memory. */
void mock_jobs_resume(struct mock_accel *mock, const struct firmware *image)
{
	mutex_lock(&mock->jobs_lock);
	cancel_delayed_work(&mock->reset_work);
	mock->resetting = false;
	mock->hung = false;
	pci_set_master(mock->pdev);
	mock_jobs_end_all_locked(mock, mock_alive(mock) ? -ECANCELED : -EIO);
	if (mock_alive(mock))
		mock_ring_start(mock, image);
	else
		mock->ready = false;
	mock_health_locked(mock);
	mutex_unlock(&mock->jobs_lock);
}

static int mock_request_irqs(struct mock_accel *mock)
{
	struct pci_dev *pdev = mock->pdev;
	int err;

	err = pci_alloc_irq_vectors(pdev, 1, MOCK_VECTORS, PCI_IRQ_MSI | PCI_IRQ_MSIX);
	if (err < 0)
		return dev_err_probe(&pdev->dev, err, "has no interrupt vectors\n");
	mock->vectors = err;
	err = request_threaded_irq(pci_irq_vector(pdev, MOCK_VECTOR_COMPLETION), NULL,
				   mock_completion, IRQF_ONESHOT, "mock_accel-jobs", mock);
	if (err)
		goto free_vectors;
	if (mock->vectors == 1)
		return 0;
	err = request_threaded_irq(pci_irq_vector(pdev, MOCK_VECTOR_EVENTS), NULL, mock_event,
				   IRQF_ONESHOT, "mock_accel-events", mock);
	if (err)
		goto free_completion;
	return 0;

free_completion:
	free_irq(pci_irq_vector(pdev, MOCK_VECTOR_COMPLETION), mock);
free_vectors:
	pci_free_irq_vectors(pdev);
	return dev_err_probe(&pdev->dev, err, "cannot request interrupts\n");
}

static void mock_free_irqs(struct mock_accel *mock)
{
	int vector;

	for (vector = 0; vector < mock->vectors; vector++)
		free_irq(pci_irq_vector(mock->pdev, vector), mock);
	pci_free_irq_vectors(mock->pdev);
}

/* Called by probe before the device is published. */
int mock_jobs_setup(struct mock_accel *mock)
{
	struct pci_dev *pdev = mock->pdev;
	const struct firmware *image;
	int err;

	mock->window_size = pci_resource_len(pdev, MOCK_WINDOW_BAR);
	if (mock->window_size)
		mock->window = devm_ioremap_wc(&pdev->dev,
					       pci_resource_start(pdev, MOCK_WINDOW_BAR),
					       mock->window_size);
	if (!mock->window)
		return dev_err_probe(&pdev->dev, -ENODEV, "cannot map its window, BAR %d\n",
				     MOCK_WINDOW_BAR);
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return dev_err_probe(&pdev->dev, err, "cannot use 64-bit DMA addresses\n");
	dma_set_max_seg_size(&pdev->dev, MOCK_MAX_LENGTH);
	mock->ring = dmam_alloc_coherent(&pdev->dev,
					 MOCK_RING_SIZE * sizeof(struct mock_descriptor),
					 &mock->ring_dma, GFP_KERNEL);
	if (!mock->ring)
		return -ENOMEM;
	err = mock_request_irqs(mock);
	if (err)
		return err;
	pci_set_master(pdev);
	image = mock_firmware_read(pdev);
	mutex_lock(&mock->jobs_lock);
	/* An earlier driver may have left it running. */
	mock_ring_stop(mock);
	mock_ring_start(mock, image);
	mock_health_locked(mock);
	mutex_unlock(&mock->jobs_lock);
	release_firmware(image);
	return 0;
}

/* Called by remove after the device was unpublished: nothing uses the hardware after this. */
void mock_jobs_teardown(struct mock_accel *mock)
{
	struct pci_dev *pdev = mock->pdev;

	mutex_lock(&mock->jobs_lock);
	mock->gone = true;
	if (mock_ring_stop(mock))
		pci_err(pdev, "does not stop\n");
	pci_clear_master(pdev);
	mock_jobs_end_all_locked(mock, -EIO);
	mutex_unlock(&mock->jobs_lock);
	cancel_delayed_work_sync(&mock->timeout_work);
	cancel_delayed_work_sync(&mock->reset_work);
	/*
	 * Submitters have buffers that are mapped for the device, faults map its
	 * window, and those who open it read firmware. After this none begins.
	 */
	down_write(&mock->present);
	up_write(&mock->present);
	mutex_lock(&mock->jobs_lock);
	mock_unmap_windows(mock);
	/* Files that are still open do it no more. */
	memset_io(mock->window, 0, mock->window_size);
	mutex_unlock(&mock->jobs_lock);
	mock_free_irqs(mock);
}

struct mock_accel *mock_alloc(struct pci_dev *pdev)
{
	struct mock_accel *mock;

	mock = kzalloc(sizeof(*mock), GFP_KERNEL);
	if (!mock)
		return NULL;
	kref_init(&mock->ref);
	mock->pdev = pdev;
	mock->mode = mock_default_mode;
	mock->health = "ok";
	mutex_init(&mock->jobs_lock);
	init_rwsem(&mock->present);
	init_waitqueue_head(&mock->wait);
	INIT_LIST_HEAD(&mock->queue);
	INIT_LIST_HEAD(&mock->files);
	INIT_LIST_HEAD(&mock->shares);
	INIT_DELAYED_WORK(&mock->timeout_work, mock_jobs_timeout);
	INIT_DELAYED_WORK(&mock->reset_work, mock_reset_work);
	return mock;
}

/* The last user of the driver's data is an open file or the bound device. */
void mock_free(struct kref *ref)
{
	kfree(container_of(ref, struct mock_accel, ref));
}
