/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kernels before 6.7 name otherwise, or not at all.
 */
#ifndef AP_EMUL_OLDER_H
#define AP_EMUL_OLDER_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)

#define AP_EMUL_NO_NOTIFIERS

#define SIE_PARAMETERS struct kvm_s390_sie_block *block, u64 *gprs

/* Of struct ap_config_info. */
#define na Na
#define nd Nd

/* GR2 of TAPQ: facilities, type and sizes of a queue. */
struct ap_tapq_hwinfo {
	union {
		unsigned long value;
		struct {
			unsigned int apsc	: 1;
			unsigned int mex4k	: 1;
			unsigned int crt4k	: 1;
			unsigned int cca	: 1;
			unsigned int accel	: 1;
			unsigned int ep11	: 1;
			unsigned int apxa	: 1;
			unsigned int		: 25;
			unsigned int at		: 8;
			unsigned int nd		: 8;
			unsigned int		: 4;
			unsigned int ml		: 4;
			unsigned int		: 4;
			unsigned int qd		: 4;
		};
	};
};

#else

#define SIE_PARAMETERS phys_addr_t physical, struct kvm_s390_sie_block *block, \
		       u64 *gprs, unsigned long gasce

#endif
#endif
