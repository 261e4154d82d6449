/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ap_emul: adjunct processors (AP) in software, below the kernel's own drivers.
 *
 *   insn.c          instructions: the traps, registers, condition codes
 *   hardware.c      adapters and queues: what each function does to them
 *   answer.c        what an adapter replies to a request
 *   parameters.c    the knobs in /sys/module/ap_emul/parameters
 *   surroundings.c  facilities, SCLP, CHSC, interruptions, SIE
 *   older.h         what older kernels name otherwise
 *
 * Response codes and structures are the kernel's: asm/ap.h and ap_bus.h.
 */
#ifndef AP_EMUL_H
#define AP_EMUL_H

#include <linux/bitmap.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <asm/ap.h>
#include "older.h"

#define AP_EMUL_IDS	256	/* adapters, and domains, that an APQN can name */
#define AP_EMUL_DEPTH	8	/* requests that a queue holds */
#define AP_EMUL_CHUNKS	3	/* the longest message, in units of 4096 bytes */

/* A reply that waits in its queue. */
struct ap_emul_reply {
	struct list_head list;
	unsigned long psmid;
	size_t length;
	size_t taken;		/* bytes received so far, in parts */
	u8 data[];
};

struct ap_emul_queue {
	unsigned long reset_ends;	/* jiffies; valid while resetting */
	bool resetting;
	u8 *indicator;			/* set when a reply is there; NULL: no interruptions */
	unsigned int count;
	struct list_head replies;
	u64 pattern;			/* of the current master key; 0: there is none */
};

enum ap_emul_mode { MODE_NONE, MODE_ACCEL, MODE_CCA, MODE_EP11, MODES };

struct ap_emul_adapter {
	enum ap_emul_mode mode;
	u8 type;			/* hardware type: 10 (CEX4) to 14 (CEX8) */
	struct ap_emul_queue *queues;	/* one for each domain; kept once it is there */
};

/* The machine. All of it is changed and read under the lock, and only for an instant. */
struct ap_emul_hardware {
	spinlock_t lock;
	struct ap_emul_adapter adapters[AP_EMUL_IDS];
	DECLARE_BITMAP(domains, AP_EMUL_IDS);
	DECLARE_BITMAP(control, AP_EMUL_IDS);
	DECLARE_BITMAP(deconfigured, AP_EMUL_IDS);
	DECLARE_BITMAP(checkstopped, AP_EMUL_IDS);
	bool control_as_domains;
	bool enabled;			/* false: there are no AP instructions */
	bool irq;			/* adapter interruptions (facility 65), read at load */
	unsigned int reset_ms;
	u8 max_adapter;		/* what QCI calls N and M: the highest ids */
	u8 max_domain;
};
extern struct ap_emul_hardware ap_emul;

/* hardware.c: one function of PQAP each, NQAP, DQAP */
struct ap_queue_status ap_emul_test(ap_qid_t qid, struct ap_tapq_hwinfo *info);
struct ap_queue_status ap_emul_reset(ap_qid_t qid);
struct ap_queue_status ap_emul_interrupts(ap_qid_t qid, u8 *indicator);
void ap_emul_query(struct ap_config_info *config);
struct ap_queue_status ap_emul_send(ap_qid_t qid, unsigned long psmid,
				    const void *message, size_t length);
struct ap_queue_status ap_emul_receive(ap_qid_t qid, bool from_start,
				       void *buffer, size_t size,
				       struct ap_emul_reply *out);
void ap_emul_empty(struct ap_emul_queue *queue);

/* answer.c: NULL if there is no memory */
struct ap_emul_reply *ap_emul_answer(const struct ap_emul_adapter *adapter, ap_qid_t qid,
				     const void *message, size_t length);

/* insn.c */
int ap_emul_trap_instructions(void);

/* surroundings.c */
void ap_emul_announce(void);
void ap_emul_changed(void);
void ap_emul_interrupt(void);

struct notifier_block;
struct airq_struct;
struct kvm_s390_sie_block;
int ap_emul_configure(u32 apid);
int ap_emul_deconfigure(u32 apid);
int ap_emul_notifier_register(struct notifier_block *nb);
int ap_emul_notifier_unregister(struct notifier_block *nb);
int ap_emul_register_interrupt(struct airq_struct *airq);
void ap_emul_unregister_interrupt(struct airq_struct *airq);
int ap_emul_sie64a(SIE_PARAMETERS);

#endif
