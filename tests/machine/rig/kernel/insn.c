// SPDX-License-Identifier: GPL-2.0-only
/*
 * The AP instructions: PQAP, NQAP, DQAP.
 *
 * A processor without them, such as QEMU's TCG, answers with an operation
 * exception. In the kernel it reaches the die notifiers before anybody else
 * (illegal_op in arch/s390/kernel/traps.c); here the instruction is carried
 * out on the registers of its program, which goes on behind it. So what the
 * drivers execute is their own code to the last instruction.
 *
 * What is not answered remains an exception, and the kernel's exception table
 * has its turn: that is how ap_instructions_available() learns that there are
 * none. The same exception for PLO's "test bit", which KVM asks 256 times and
 * TCG does not know, is answered with "not installed".
 */
#include <linux/io.h>
#include <linux/kdebug.h>
#include <linux/notifier.h>
#include <linux/ptrace.h>
#include "ap_emul.h"

#define NQAP	0xb2ad
#define DQAP	0xb2ae
#define PQAP	0xb2af
#define PLO	0xee

#define PLO_TEST_BIT	0x100
#define ENABLE		(1UL << 47)	/* GR1 of AQIC */
#define FROM_START	0x80000000UL	/* GR0 of DQAP: the first part of a reply, */
#define NEXT_PART	0x40000000UL	/* or another one: never 0, also for queue 00.0000 */

enum pqap_function { TAPQ, RAPQ, ZAPQ, AQIC, QCI, QACT };

static void set_cc(struct pt_regs *regs, unsigned long cc)
{
	regs->psw.mask = (regs->psw.mask & ~PSW_MASK_CC) | cc << 44;
}

static bool done(struct pt_regs *regs, struct ap_queue_status status)
{
	regs->gprs[1] = *(u32 *)&status;
	set_cc(regs, status.response_code ? 3 : 0);
	return true;
}

/* PQAP: the function and the queue are in GR0, more in GR1 and GR2. */
static bool pqap(struct pt_regs *regs)
{
	ap_qid_t qid = regs->gprs[0] & 0xffff;
	struct ap_queue_status status;
	struct ap_tapq_hwinfo info;

	switch (regs->gprs[0] >> 24 & 0xff) {
	case TAPQ:
		status = ap_emul_test(qid, &info);
		regs->gprs[2] = info.value;
		return done(regs, status);
	case RAPQ:
	case ZAPQ:
		return done(regs, ap_emul_reset(qid));
	case AQIC:
		return done(regs, ap_emul_interrupts(qid, regs->gprs[1] & ENABLE ?
						     phys_to_virt(regs->gprs[2]) : NULL));
	case QCI:
		ap_emul_query((struct ap_config_info *)regs->gprs[2]);
		set_cc(regs, 0);
		return true;
	case QACT:
		/* The compatible type asked for is one. */
		regs->gprs[2] = regs->gprs[1];
		return done(regs, ap_emul_test(qid, &info));
	default:
		return false;	/* BAPQ, AAPQ: only in a secure guest */
	}
}

/* NQAP r1,r2: identifier in r1's pair, address and length in r2's. */
static bool nqap(struct pt_regs *regs, unsigned int r1, unsigned int r2)
{
	unsigned long *id = &regs->gprs[r1], *message = &regs->gprs[r2];
	struct ap_queue_status status;

	status = ap_emul_send(regs->gprs[0] & 0xffff, id[0] << 32 | (u32)id[1],
			      (const void *)message[0], message[1]);
	if (!status.response_code) {
		message[0] += message[1];
		message[1] = 0;
	}
	return done(regs, status);
}

/*
 * DQAP r1,r2: as NQAP, the other way. A reply longer than the buffer stays;
 * GR2 tells the rest, GR0 that the next part is due.
 */
static bool dqap(struct pt_regs *regs, unsigned int r1, unsigned int r2)
{
	unsigned long *id = &regs->gprs[r1], *buffer = &regs->gprs[r2];
	struct ap_emul_reply reply = {};
	struct ap_queue_status status;

	status = ap_emul_receive(regs->gprs[0] & 0xffff, regs->gprs[0] & FROM_START,
				 (void *)buffer[0], buffer[1], &reply);
	regs->gprs[2] = reply.length - reply.taken;
	if (status.response_code)
		return done(regs, status);
	buffer[0] += reply.taken;
	buffer[1] -= reply.taken;
	if (regs->gprs[2]) {
		regs->gprs[0] = (regs->gprs[0] & ~FROM_START) | NEXT_PART;
		set_cc(regs, 2);
		return true;
	}
	id[0] = reply.psmid >> 32;
	id[1] = (u32)reply.psmid;
	return done(regs, status);
}

static bool execute(struct pt_regs *regs, const u8 *insn)
{
	unsigned int r1 = insn[3] >> 4, r2 = insn[3] & 0xf;

	if (insn[0] == PLO && regs->gprs[0] & PLO_TEST_BIT) {
		set_cc(regs, 3);
		return true;
	}
	if (!READ_ONCE(ap_emul.enabled))
		return false;
	switch (insn[0] << 8 | insn[1]) {
	case PQAP:
		return pqap(regs);
	case NQAP:
		return nqap(regs, r1, r2);
	case DQAP:
		return dqap(regs, r1, r2);
	default:
		return false;
	}
}

static int on_exception(struct notifier_block *nb, unsigned long event, void *data)
{
	struct die_args *args = data;
	struct pt_regs *regs = args->regs;
	unsigned long length = regs->int_code >> 16;

	if (event != DIE_BPT || user_mode(regs) || length < 4)
		return NOTIFY_DONE;
	return execute(regs, (const u8 *)regs->psw.addr - length) ? NOTIFY_STOP : NOTIFY_DONE;
}

static struct notifier_block exceptions = { .notifier_call = on_exception };

int ap_emul_trap_instructions(void)
{
	return register_die_notifier(&exceptions);
}
