// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: a file system with a single file, mock-accel.fw, whose readers wait
 * while the parameter "hold" is set. Its content is that of the parameter "file"
 * when this module is loaded.
 */

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/kernel_read_file.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#define SLOW_FIRMWARE_MAGIC	0x510f1e1d
#define SLOW_FIRMWARE_MAX	SZ_1M
#define SLOW_FIRMWARE_POLL_MS	10

static char *file;
module_param(file, charp, 0444);
MODULE_PARM_DESC(file, "path of the file with the content");

static bool hold;
module_param(hold, bool, 0644);
MODULE_PARM_DESC(hold, "readers wait");

static bool waiting;
module_param(waiting, bool, 0444);
MODULE_PARM_DESC(waiting, "whether a reader has waited since \"hold\" was last unset");

static void *content;
static size_t content_size;

static ssize_t slow_firmware_read(struct kiocb *iocb, struct iov_iter *to)
{
	size_t left = content_size - min_t(size_t, iocb->ki_pos, content_size);
	size_t copied;

	while (READ_ONCE(hold)) {
		WRITE_ONCE(waiting, true);
		msleep_interruptible(SLOW_FIRMWARE_POLL_MS);
		if (signal_pending(current))
			return -EINTR;
	}
	WRITE_ONCE(waiting, false);
	copied = copy_to_iter(content + iocb->ki_pos, min(left, iov_iter_count(to)), to);
	iocb->ki_pos += copied;
	return copied;
}

static const struct file_operations slow_firmware_fops = {
	.read_iter = slow_firmware_read,
	.llseek = generic_file_llseek,
};

static int slow_firmware_fill(struct super_block *sb, struct fs_context *fc)
{
	static const struct tree_descr none[] = { { "" } };
	struct dentry *dentry;
	struct inode *inode;
	int err;

	err = simple_fill_super(sb, SLOW_FIRMWARE_MAGIC, none);
	if (err)
		return err;
	dentry = d_alloc_name(sb->s_root, "mock-accel.fw");
	if (!dentry)
		return -ENOMEM;
	inode = new_inode(sb);
	if (!inode) {
		dput(dentry);
		return -ENOMEM;
	}
	inode->i_ino = 2;
	inode->i_mode = S_IFREG | 0444;
	inode->i_fop = &slow_firmware_fops;
	i_size_write(inode, content_size);
	d_add(dentry, inode);
	return 0;
}

static int slow_firmware_get_tree(struct fs_context *fc)
{
	return get_tree_nodev(fc, slow_firmware_fill);
}

static const struct fs_context_operations slow_firmware_context_ops = {
	.get_tree = slow_firmware_get_tree,
};

static int slow_firmware_init_context(struct fs_context *fc)
{
	fc->ops = &slow_firmware_context_ops;
	return 0;
}

static struct file_system_type slow_firmware_type = {
	.owner = THIS_MODULE,
	.name = "slow_firmware",
	.init_fs_context = slow_firmware_init_context,
	.kill_sb = kill_litter_super,
};

static int __init slow_firmware_init(void)
{
	ssize_t size;
	int err;

	if (!file)
		return -EINVAL;
	size = kernel_read_file_from_path(file, 0, &content, SLOW_FIRMWARE_MAX, NULL,
					  READING_FIRMWARE);
	if (size < 0)
		return size;
	content_size = size;
	err = register_filesystem(&slow_firmware_type);
	if (err)
		vfree(content);
	return err;
}

static void __exit slow_firmware_exit(void)
{
	unregister_filesystem(&slow_firmware_type);
	vfree(content);
}

module_init(slow_firmware_init);
module_exit(slow_firmware_exit);

MODULE_DESCRIPTION("Firmware that takes long to read, for tests");
MODULE_LICENSE("GPL");
