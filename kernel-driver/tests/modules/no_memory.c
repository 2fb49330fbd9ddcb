// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: while it is loaded, there is no memory for the names of the nodes
 * in /dev/mock-accel, except for those who may not fail (__GFP_NOFAIL).
 */

#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

/* kasprintf(gfp, format, ...); 0 lets the call return NULL. */
static int no_memory_called(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	gfp_t gfp = (__force gfp_t)regs_get_kernel_argument(regs, 0);
	const char *format = (const char *)regs_get_kernel_argument(regs, 1);

	return gfp & __GFP_NOFAIL || !strstarts(format, "mock-accel/");
}

static int no_memory_returns(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	kfree((void *)regs_return_value(regs));
	regs_set_return_value(regs, 0);
	return 0;
}

static struct kretprobe no_memory_probe = {
	.kp.symbol_name = "kasprintf",
	.entry_handler = no_memory_called,
	.handler = no_memory_returns,
};

static int __init no_memory_init(void)
{
	return register_kretprobe(&no_memory_probe);
}

static void __exit no_memory_exit(void)
{
	unregister_kretprobe(&no_memory_probe);
}

module_init(no_memory_init);
module_exit(no_memory_exit);

MODULE_DESCRIPTION("Lack of memory for names of device nodes, for tests");
MODULE_LICENSE("GPL");
