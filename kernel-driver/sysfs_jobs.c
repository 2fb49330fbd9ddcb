// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes of jobs, window, firmware and health.
 *
 * They take jobs_lock only, which is never held while a device is unpublished.
 */

#include <linux/ctype.h>
#include <linux/io.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

#include "jobs.h"

static const char * const mock_modes[] = {
	[MOCK_MODE_EXCLUSIVE] = "exclusive",
	[MOCK_MODE_SHARED] = "shared",
};

u32 mock_default_mode = MOCK_MODE_SHARED;

static int mock_mode_set(const char *value, const struct kernel_param *param)
{
	int mode = sysfs_match_string(mock_modes, value);

	if (mode < 0)
		return mode;
	mock_default_mode = mode;
	return 0;
}

static int mock_mode_get(char *buf, const struct kernel_param *param)
{
	return sysfs_emit(buf, "%s\n", mock_modes[mock_default_mode]);
}

static const struct kernel_param_ops mock_mode_ops = {
	.set = mock_mode_set,
	.get = mock_mode_get,
};
module_param_cb(mode, &mock_mode_ops, NULL, 0644);
MODULE_PARM_DESC(mode, "mode of devices that are free: shared (default) or exclusive");

/* Values of a claim end with it; needs mock_lock. */
void mock_restore_defaults(struct mock_accel *mock)
{
	mutex_lock(&mock->jobs_lock);
	mock->mode = mock_default_mode;
	mock->job_limit = 0;
	mock->window_limit = 0;
	iowrite32(0, mock->regs + MOCK_REG_JOB_LIMIT);
	iowrite32(0, mock->regs + MOCK_REG_WINDOW_LIMIT);
	mock_shares_clear_locked(mock);
	mutex_unlock(&mock->jobs_lock);
}

static ssize_t mode_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", mock_modes[READ_ONCE(mock->mode)]);
}

static ssize_t mode_store(struct device *dev, struct device_attribute *attr, const char *buf,
			  size_t count)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	int mode = sysfs_match_string(mock_modes, buf), err = 0;

	if (mode < 0)
		return mode;
	mutex_lock(&mock->jobs_lock);
	if (mode != mock->mode && !list_empty(&mock->files))
		err = -EBUSY;
	else
		mock->mode = mode;
	mutex_unlock(&mock->jobs_lock);
	return err ?: count;
}
static DEVICE_ATTR_RW(mode);

static ssize_t mock_show_u32(struct device *dev, char *buf, unsigned int reg)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	u32 value;
	bool alive;

	mutex_lock(&mock->jobs_lock);
	value = ioread32(mock->regs + reg);
	alive = mock_alive(mock);
	mutex_unlock(&mock->jobs_lock);
	return alive ? sysfs_emit(buf, "%d\n", (s32)value) : -EIO;
}

static ssize_t mock_show_u64(struct device *dev, char *buf, unsigned int reg)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	u32 low, high, again;
	bool alive;

	mutex_lock(&mock->jobs_lock);
	do {
		high = ioread32(mock->regs + reg + 4);
		low = ioread32(mock->regs + reg);
		again = ioread32(mock->regs + reg + 4);
		alive = mock_alive(mock);
	} while (alive && high != again);
	mutex_unlock(&mock->jobs_lock);
	return alive ? sysfs_emit(buf, "%llu\n", (u64)high << 32 | low) : -EIO;
}

/* Write a limit while the device is not in use; 0 is none. */
static int mock_store_limit(struct mock_accel *mock, const char *buf, u32 *limit, u32 most,
			    u32 multiple, unsigned int reg)
{
	u32 value;
	int err;

	err = kstrtou32(buf, 10, &value);
	if (err || value > most || value % multiple)
		return -EINVAL;
	mutex_lock(&mock->jobs_lock);
	if (!list_empty(&mock->files)) {
		err = -EBUSY;
	} else if (!mock_alive(mock)) {
		err = -EIO;
	} else {
		*limit = value;
		iowrite32(value, mock->regs + reg);
	}
	mutex_unlock(&mock->jobs_lock);
	return err;
}

static ssize_t job_limit_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(mock->job_limit));
}

static ssize_t job_limit_store(struct device *dev, struct device_attribute *attr,
			       const char *buf, size_t count)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	int err;

	err = mock_store_limit(mock, buf, &mock->job_limit, MOCK_RING_SIZE - 1, 1,
			       MOCK_REG_JOB_LIMIT);
	return err ?: count;
}
static DEVICE_ATTR_RW(job_limit);

static ssize_t window_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%llu\n", (u64)mock->window_size);
}
static DEVICE_ATTR_RO(window_size);

static ssize_t window_limit_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(mock->window_limit));
}

static ssize_t window_limit_store(struct device *dev, struct device_attribute *attr,
				  const char *buf, size_t count)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	int err;

	err = mock_store_limit(mock, buf, &mock->window_limit, mock->window_size, PAGE_SIZE,
			       MOCK_REG_WINDOW_LIMIT);
	return err ?: count;
}
static DEVICE_ATTR_RW(window_limit);

static ssize_t firmware_version_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	u32 version;

	mutex_lock(&mock->jobs_lock);
	version = ioread32(mock->regs + MOCK_REG_FIRMWARE_VERSION);
	mutex_unlock(&mock->jobs_lock);
	if (version == MOCK_DEAD)
		return -EIO;
	if (!version)
		return sysfs_emit(buf, "none\n");
	return sysfs_emit(buf, "%u.%u\n", version >> 16, version & 0xffff);
}
static DEVICE_ATTR_RO(firmware_version);

static ssize_t jobs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return mock_show_u64(dev, buf, MOCK_REG_JOBS);
}
static DEVICE_ATTR_RO(jobs);

static ssize_t jobs_failed_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return mock_show_u64(dev, buf, MOCK_REG_JOBS_FAILED);
}
static DEVICE_ATTR_RO(jobs_failed);

static ssize_t bytes_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return mock_show_u64(dev, buf, MOCK_REG_BYTES);
}
static DEVICE_ATTR_RO(bytes);

static ssize_t hangs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(mock->hangs));
}
static DEVICE_ATTR_RO(hangs);

static ssize_t health_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	const char *health;

	mutex_lock(&mock->jobs_lock);
	mock_health_locked(mock);
	health = mock->health;
	mutex_unlock(&mock->jobs_lock);
	return sysfs_emit(buf, "%s\n", health);
}
static DEVICE_ATTR_RO(health);

static ssize_t temp1_input_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return mock_show_u32(dev, buf, MOCK_REG_TEMPERATURE);
}
static DEVICE_ATTR_RO(temp1_input);

static ssize_t temp1_max_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return mock_show_u32(dev, buf, MOCK_REG_TEMPERATURE_LIMIT);
}
static DEVICE_ATTR_RO(temp1_max);

/* A reset takes locks that are held while this device is unpublished, so it is only requested. */
static ssize_t reset_store(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t count)
{
	struct mock_accel *mock = dev_get_drvdata(dev);
	bool value;

	if (kstrtobool(buf, &value) || !value)
		return -EINVAL;
	mutex_lock(&mock->jobs_lock);
	mock_reset_soon_locked(mock);
	mutex_unlock(&mock->jobs_lock);
	return count;
}
static DEVICE_ATTR_WO(reset);

static struct attribute *mock_job_attrs[] = {
	&dev_attr_mode.attr,
	&dev_attr_job_limit.attr,
	&dev_attr_window_size.attr,
	&dev_attr_window_limit.attr,
	&dev_attr_shares.attr,
	&dev_attr_firmware_version.attr,
	&dev_attr_jobs.attr,
	&dev_attr_jobs_failed.attr,
	&dev_attr_bytes.attr,
	&dev_attr_hangs.attr,
	&dev_attr_health.attr,
	&dev_attr_temp1_input.attr,
	&dev_attr_temp1_max.attr,
	&dev_attr_reset.attr,
	NULL
};

const struct attribute_group mock_job_group = {
	.attrs = mock_job_attrs,
};
