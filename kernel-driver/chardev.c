// SPDX-License-Identifier: GPL-2.0
/* /dev/mock-accel/<name>; uapi/mock_accel_uapi.h is its interface. */

#include <linux/cdev.h>
#include <linux/firmware.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "jobs.h"

/* Of devices; those of shares follow. */
#define MOCK_MINORS		256
#define MOCK_ALL_MINORS		(2 * MOCK_MINORS)

static dev_t mock_first_dev;
static struct cdev mock_cdev;
/* Published devices by minor number. */
static DEFINE_IDR(mock_minors);
static DEFINE_IDR(mock_share_minors);
static DEFINE_MUTEX(mock_minors_lock);

static void mock_minor_put(struct mock_accel *mock)
{
	mutex_lock(&mock_minors_lock);
	idr_remove(&mock_minors, mock->minor);
	mutex_unlock(&mock_minors_lock);
}

int mock_share_minor_get(struct mock_share *share)
{
	mutex_lock(&mock_minors_lock);
	share->minor = idr_alloc(&mock_share_minors, share, MOCK_MINORS, MOCK_ALL_MINORS,
				 GFP_KERNEL);
	mutex_unlock(&mock_minors_lock);
	return min(share->minor, 0);
}

void mock_share_minor_put(struct mock_share *share)
{
	mutex_lock(&mock_minors_lock);
	idr_remove(&mock_share_minors, share->minor);
	mutex_unlock(&mock_minors_lock);
}

/* Create the class device and the node of a bound function; needs mock_lock. Errors are logged. */
int mock_device_create(struct mock_accel *mock, const struct attribute_group **groups,
		       const char *name)
{
	struct device *dev;
	int minor;

	mutex_lock(&mock->jobs_lock);
	strscpy(mock->name, name, sizeof(mock->name));
	mutex_unlock(&mock->jobs_lock);
	mutex_lock(&mock_minors_lock);
	minor = idr_alloc(&mock_minors, mock, 0, MOCK_MINORS, GFP_KERNEL);
	mutex_unlock(&mock_minors_lock);
	if (minor < 0) {
		pci_err(mock->pdev, "cannot publish %s: %pe\n", name, ERR_PTR(minor));
		return minor;
	}
	mock->minor = minor;
	dev = device_create_with_groups(&mock_class, &mock->pdev->dev,
					MKDEV(MAJOR(mock_first_dev), minor), mock, groups, "%s",
					name);
	if (IS_ERR(dev)) {
		mock_minor_put(mock);
		pci_err(mock->pdev, "cannot publish %s: %pe\n", name, dev);
		return PTR_ERR(dev);
	}
	mock->dev = dev;
	mutex_lock(&mock->jobs_lock);
	mock->notify = dev;
	mutex_unlock(&mock->jobs_lock);
	return 0;
}

/* Waits for attribute methods that run; open files stay. Needs mock_lock. */
void mock_device_destroy(struct mock_accel *mock)
{
	mock_minor_put(mock);
	mutex_lock(&mock->jobs_lock);
	mock->notify = NULL;
	mock_shares_clear_locked(mock);
	mutex_unlock(&mock->jobs_lock);
	device_unregister(mock->dev);
	mock->dev = NULL;
}

/* The device, and the share if it is that of one, with a reference to each. */
static struct mock_accel *mock_by_minor(unsigned int minor, struct mock_share **share)
{
	struct mock_accel *mock;

	mutex_lock(&mock_minors_lock);
	mock = idr_find(&mock_minors, minor);
	*share = idr_find(&mock_share_minors, minor);
	if (*share) {
		kref_get(&(*share)->ref);
		mock = (*share)->mock;
	}
	if (mock)
		kref_get(&mock->ref);
	mutex_unlock(&mock_minors_lock);
	return mock;
}

static int mock_open_locked(struct mock_accel *mock, struct mock_file *file)
{
	if (mock->gone || (file->share && file->share->removed))
		return -ENODEV;
	if (mock->mode == MOCK_MODE_EXCLUSIVE && !list_empty(&mock->files))
		return -EBUSY;
	list_add_tail(&file->node, &mock->files);
	return 0;
}

/* The firmware may have been installed meanwhile. */
static void mock_start_again(struct mock_accel *mock)
{
	const struct firmware *image;

	/* The device is going away. */
	if (!down_read_trylock(&mock->present))
		return;
	if (READ_ONCE(mock->gone) || READ_ONCE(mock->ready) || READ_ONCE(mock->resetting))
		goto up;
	image = mock_firmware_read(mock->pdev);
	mutex_lock(&mock->jobs_lock);
	if (!mock->gone && !mock->ready && !mock->resetting) {
		mock_ring_start(mock, image);
		mock_health_locked(mock);
	}
	mutex_unlock(&mock->jobs_lock);
	release_firmware(image);
up:
	up_read(&mock->present);
}

static int mock_open(struct inode *inode, struct file *filp)
{
	struct mock_share *share;
	struct mock_accel *mock = mock_by_minor(iminor(inode), &share);
	struct mock_file *file;
	int err = -ENOMEM;

	if (!mock)
		return -ENODEV;
	file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);
	if (!file)
		goto put;
	file->mock = mock;
	file->share = share;
	file->filp = filp;
	INIT_LIST_HEAD(&file->jobs);
	mutex_lock(&mock->jobs_lock);
	err = mock_open_locked(mock, file);
	mutex_unlock(&mock->jobs_lock);
	if (err) {
		kfree(file);
		goto put;
	}
	mock_start_again(mock);
	filp->private_data = file;
	return nonseekable_open(inode, filp);

put:
	mock_share_put(share);
	kref_put(&mock->ref, mock_free);
	return err;
}

/* Also when the process died: its jobs end, and the last user leaves an empty window. */
static int mock_release(struct inode *inode, struct file *filp)
{
	struct mock_file *file = filp->private_data;
	struct mock_accel *mock = file->mock;

	mutex_lock(&mock->jobs_lock);
	mock_jobs_close_locked(file);
	list_del(&file->node);
	if (list_empty(&mock->files) && !mock->gone)
		memset_io(mock->window, 0, mock->window_size);
	mutex_unlock(&mock->jobs_lock);
	mock_share_put(file->share);
	kfree(file);
	kref_put(&mock->ref, mock_free);
	return 0;
}

/* As copy_struct_from_user(), for structures that begin with their size. */
static int mock_copy_in(void *to, size_t size, void __user *from)
{
	u32 given;

	if (get_user(given, (u32 __user *)from))
		return -EFAULT;
	if (given < size)
		return -EINVAL;
	if (given > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(to, size, from, given);
}

static int mock_copy_out(void __user *to, const void *from, size_t size)
{
	return copy_to_user(to, from, size) ? -EFAULT : 0;
}

static int mock_ioctl_info(struct mock_file *file, void __user *argument)
{
	struct mock_accel *mock = file->mock;
	struct mock_ioc_info info;
	resource_size_t start;
	u32 jobs;
	int err;

	err = mock_copy_in(&info, sizeof(info), argument);
	if (err)
		return err;
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	info.version = MOCK_UAPI_VERSION;
	mutex_lock(&mock->jobs_lock);
	if (mock->gone || !mock_alive(mock)) {
		mutex_unlock(&mock->jobs_lock);
		return -EIO;
	}
	memcpy_fromio(info.uuid, mock->regs + MOCK_REG_UUID, MOCK_UUID_SIZE);
	strscpy(info.name, mock->name, sizeof(info.name));
	info.window_size = mock->window_size;
	info.window_limit = mock_file_window(file, &start);
	info.mode = mock->mode;
	jobs = mock->job_limit ?: MOCK_RING_SIZE - 1;
	info.job_limit = file->share && file->share->job_limit ?
			 min(jobs, file->share->job_limit) : jobs;
	info.firmware_version = ioread32(mock->regs + MOCK_REG_FIRMWARE_VERSION);
	info.flags = (mock->is_vf ? MOCK_INFO_VF : 0) | (mock->ready ? MOCK_INFO_FIRMWARE : 0);
	mutex_unlock(&mock->jobs_lock);
	return mock_copy_out(argument, &info, sizeof(info));
}

static int mock_ioctl_submit(struct mock_file *file, void __user *argument)
{
	struct mock_ioc_submit args;
	int err;

	err = mock_copy_in(&args, sizeof(args), argument);
	if (err)
		return err;
	err = mock_job_submit(file, &args, &args.job);
	return err ?: mock_copy_out(argument, &args, sizeof(args));
}

static int mock_ioctl_wait(struct mock_file *file, void __user *argument)
{
	struct mock_ioc_wait args;
	int err;

	err = mock_copy_in(&args, sizeof(args), argument);
	if (err)
		return err;
	if (args.reserved || !args.timeout_ms || args.timeout_ms > MOCK_MAX_TIMEOUT_MS)
		return -EINVAL;
	err = mock_job_wait(file, args.job, args.timeout_ms, &args.status, &args.bytes);
	return err ?: mock_copy_out(argument, &args, sizeof(args));
}

/* The number of the job is written even if a signal interrupts: the job goes on. */
static int mock_ioctl_run(struct mock_file *file, void __user *argument)
{
	struct mock_ioc_submit submit;
	struct mock_ioc_run args;
	int err, failed;

	/* Both structures begin with the same members. */
	static_assert(offsetof(struct mock_ioc_run, status) == sizeof(submit));
	err = mock_copy_in(&args, sizeof(args), argument);
	if (err)
		return err;
	if (args.reserved)
		return -EINVAL;
	memcpy(&submit, &args, sizeof(submit));
	err = mock_job_submit(file, &submit, &args.job);
	if (err)
		return err;
	err = mock_job_wait(file, args.job, 0, &args.status, &args.bytes);
	failed = mock_copy_out(argument, &args, sizeof(args));
	return err ?: failed;
}

static long mock_ioctl(struct file *filp, unsigned int command, unsigned long argument)
{
	struct mock_file *file = filp->private_data;
	void __user *user = (void __user *)argument;

	if (_IOC_TYPE(command) != _IOC_TYPE(MOCK_IOC_INFO))
		return -ENOTTY;
	/* The size in the number is that of the caller's structure, which has it, too. */
	switch (_IOC_NR(command)) {
	case _IOC_NR(MOCK_IOC_INFO):
		return mock_ioctl_info(file, user);
	case _IOC_NR(MOCK_IOC_SUBMIT):
		return mock_ioctl_submit(file, user);
	case _IOC_NR(MOCK_IOC_WAIT):
		return mock_ioctl_wait(file, user);
	case _IOC_NR(MOCK_IOC_RUN):
		return mock_ioctl_run(file, user);
	}
	return -ENOTTY;
}

static __poll_t mock_poll(struct file *filp, poll_table *table)
{
	struct mock_file *file = filp->private_data;
	struct mock_accel *mock = file->mock;
	__poll_t mask = 0;

	poll_wait(filp, &mock->wait, table);
	mutex_lock(&mock->jobs_lock);
	if (file->done)
		mask |= EPOLLIN | EPOLLRDNORM;
	if (mock->gone)
		mask |= EPOLLHUP | EPOLLERR;
	mutex_unlock(&mock->jobs_lock);
	return mask;
}

static const struct file_operations mock_fops = {
	.owner = THIS_MODULE,
	.open = mock_open,
	.release = mock_release,
	.unlocked_ioctl = mock_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = mock_poll,
	.mmap = mock_mmap,
};

int mock_chardev_init(void)
{
	int err;

	err = alloc_chrdev_region(&mock_first_dev, 0, MOCK_ALL_MINORS, KBUILD_MODNAME);
	if (err)
		return err;
	cdev_init(&mock_cdev, &mock_fops);
	mock_cdev.owner = THIS_MODULE;
	err = cdev_add(&mock_cdev, mock_first_dev, MOCK_ALL_MINORS);
	if (err)
		unregister_chrdev_region(mock_first_dev, MOCK_ALL_MINORS);
	return err;
}

void mock_chardev_exit(void)
{
	cdev_del(&mock_cdev);
	unregister_chrdev_region(mock_first_dev, MOCK_ALL_MINORS);
	idr_destroy(&mock_minors);
	idr_destroy(&mock_share_minors);
}
