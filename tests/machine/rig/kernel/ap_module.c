// SPDX-License-Identifier: GPL-2.0-only
/* Linux 6.1's AP bus knows no life as a module, and so has no licence of one. */
#include <linux/module.h>

MODULE_LICENSE("GPL");
