// SPDX-License-Identifier: GPL-2.0-only
/*
 * What belongs to a machine with AP beside the instructions: facilities, the
 * service processor, notifications, interruptions, and SIE for KVM.
 */
#include <linux/fs.h>
#include <linux/irq_work.h>
#include <linux/kvm_host.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <asm/airq.h>
#include <asm/chsc.h>
#include <asm/facility.h>
#include <asm/isc.h>
#include <asm/sclp.h>
#include "ap_emul.h"

static struct airq_struct *handler;	/* of the AP bus, once it has registered */

/*
 * Modules that are loaded later see the facilities from the beginning: also
 * test_facility() of a constant, which is patched in when a module is loaded.
 */
void ap_emul_announce(void)
{
	__set_facility(12, stfle_fac_list);		/* PQAP(QCI) */
	__set_facility(15, stfle_fac_list);		/* AP facilities test */
	if (ap_emul.irq)
		__set_facility(65, stfle_fac_list);	/* PQAP(AQIC) */
	sclp.has_sief2 = 1;
	/* KVM adds 1: a machine that names no highest address would have 0 bytes. */
	if (sclp.hamax == U64_MAX)
		sclp.hamax = (1UL << 47) - 1;
}

static int set_configured(u32 apid, bool configured)
{
	unsigned long flags;
	int rc = 0;

	spin_lock_irqsave(&ap_emul.lock, flags);
	if (apid >= AP_EMUL_IDS || ap_emul.adapters[apid].mode == MODE_NONE)
		rc = -EIO;
	else
		__assign_bit(apid, ap_emul.deconfigured, !configured);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	return rc;
}

int ap_emul_configure(u32 apid)
{
	return set_configured(apid, true);
}
EXPORT_SYMBOL_GPL(ap_emul_configure);

int ap_emul_deconfigure(u32 apid)
{
	return set_configured(apid, false);
}
EXPORT_SYMBOL_GPL(ap_emul_deconfigure);

#ifndef AP_EMUL_NO_NOTIFIERS
static struct notifier_block *listener;
static DEFINE_MUTEX(listener_mutex);

/* The true chain, too: the other end of it may be something else one day. */
int ap_emul_notifier_register(struct notifier_block *nb)
{
	int rc = chsc_notifier_register(nb);

	if (!rc) {
		mutex_lock(&listener_mutex);
		listener = nb;
		mutex_unlock(&listener_mutex);
	}
	return rc;
}
EXPORT_SYMBOL_GPL(ap_emul_notifier_register);

int ap_emul_notifier_unregister(struct notifier_block *nb)
{
	mutex_lock(&listener_mutex);
	listener = NULL;
	mutex_unlock(&listener_mutex);
	return chsc_notifier_unregister(nb);
}
EXPORT_SYMBOL_GPL(ap_emul_notifier_unregister);

/* Tell the bus that the configuration has changed. It has rescanned when this returns. */
void ap_emul_changed(void)
{
	mutex_lock(&listener_mutex);
	if (listener)
		listener->notifier_call(listener, CHSC_NOTIFY_AP_CFG, NULL);
	mutex_unlock(&listener_mutex);
}

#else

/* This bus hears of nothing, and scans twice a minute. Who cannot wait writes into a file of its. */
void ap_emul_changed(void)
{
	struct file *file = filp_open("/sys/bus/ap/scans", O_WRONLY, 0);
	loff_t position = 0;

	if (IS_ERR(file))
		return;		/* there is no bus yet */
	kernel_write(file, "1", 1, &position);
	filp_close(file, NULL);
}

#endif

static void deliver(struct irq_work *work)
{
	struct airq_struct *airq = READ_ONCE(handler);

	if (airq)
		airq->handler(airq, NULL);
}
static DEFINE_IRQ_WORK(interruption, deliver);

/* A reply is there: called wherever NQAP was executed, so the handler runs a little later. */
void ap_emul_interrupt(void)
{
	irq_work_queue(&interruption);
}

int ap_emul_register_interrupt(struct airq_struct *airq)
{
	int rc = register_adapter_interrupt(airq);

	if (!rc && airq->isc == AP_ISC)
		WRITE_ONCE(handler, airq);
	return rc;
}
EXPORT_SYMBOL_GPL(ap_emul_register_interrupt);

void ap_emul_unregister_interrupt(struct airq_struct *airq)
{
	if (READ_ONCE(handler) == airq) {
		WRITE_ONCE(handler, NULL);
		irq_work_sync(&interruption);
	}
	unregister_adapter_interrupt(airq);
}
EXPORT_SYMBOL_GPL(ap_emul_unregister_interrupt);

/*
 * TCG cannot interpret a guest. KVM makes virtual machines, their memory,
 * devices and AP masks as always; a virtual processor that is to run enters an
 * enabled wait at once, from which KVM wakes it to stop, and for nothing else.
 */
int ap_emul_sie64a(SIE_PARAMETERS)
{
	if (atomic_read(&block->cpuflags) & CPUSTAT_STOP_INT) {
		block->icptcode = ICPT_STOP;
		return 0;
	}
	block->icptcode = ICPT_WAIT;
	block->gpsw.mask = PSW_MASK_WAIT | PSW_MASK_EXT | PSW_MASK_IO | PSW_MASK_MCHECK |
			   PSW_MASK_EA | PSW_MASK_BA;
	return 0;
}
EXPORT_SYMBOL_GPL(ap_emul_sie64a);
