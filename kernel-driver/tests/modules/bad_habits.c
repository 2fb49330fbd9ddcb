// SPDX-License-Identifier: GPL-2.0
/* For tests: has a bug of the kind that its parameter names, which a debug kernel must report. */

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

static char *habit;
module_param(habit, charp, 0444);
MODULE_PARM_DESC(habit, "use-after-free, inversion or sleep");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(lock);

static void use_after_free(void)
{
	int *memory = kmalloc(sizeof(*memory), GFP_KERNEL);

	kfree(memory);
	/* The compiler must not see it. */
	OPTIMIZER_HIDE_VAR(memory);
	WRITE_ONCE(*memory, 1);
}

static void inversion(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void sleep(void)
{
	spin_lock(&lock);
	msleep(20);
	spin_unlock(&lock);
}

static int __init bad_habits_init(void)
{
	if (!habit)
		return -EINVAL;
	if (!strcmp(habit, "use-after-free"))
		use_after_free();
	else if (!strcmp(habit, "inversion"))
		inversion();
	else if (!strcmp(habit, "sleep"))
		sleep();
	else
		return -EINVAL;
	/* It need not stay. */
	return -EAGAIN;
}

module_init(bad_habits_init);

MODULE_DESCRIPTION("Bugs that a debug kernel reports, for tests");
MODULE_LICENSE("GPL");
