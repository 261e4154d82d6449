/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the AP bus and KVM ask of a machine by other means than AP instructions.
 *
 * The compiler reads this file before each module's source (CFLAGS_MODULE), so
 * these names, and nothing else, mean functions of ap_emul in surroundings.c.
 * By the symbols that they then need, modprobe loads ap_emul before them.
 */
#ifndef AP_EMUL_ITSELF

#include <linux/version.h>

/* The SCLP commands that take an adapter out of the configuration and back. */
#define sclp_ap_configure		ap_emul_configure
#define sclp_ap_deconfigure		ap_emul_deconfigure

/* The machine's word that the AP configuration has changed. */
#define chsc_notifier_register		ap_emul_notifier_register
#define chsc_notifier_unregister	ap_emul_notifier_unregister

/* Adapter interruptions. */
#define register_adapter_interrupt	ap_emul_register_interrupt
#define unregister_adapter_interrupt	ap_emul_unregister_interrupt

/* Start interpretive execution. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define sie64a				ap_emul_sie64a
#else
#define __sie64a			ap_emul_sie64a
#endif

#endif
