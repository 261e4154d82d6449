// SPDX-License-Identifier: GPL-2.0-only
/*
 * Adapters and queues, and what the functions of the AP instructions do.
 *
 * A queue exists where an adapter and a usage domain meet. It answers "reset in
 * progress" for reset_ms after each reset, as a card does that has to finish
 * and wipe what it was doing; nothing else takes time here.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include "ap_emul.h"
#include "../ap_bus.h"

struct ap_emul_hardware ap_emul = {
	.lock = __SPIN_LOCK_UNLOCKED(ap_emul.lock),
	.control_as_domains = true,
	.enabled = true,
	.irq = true,
	.max_adapter = AP_EMUL_IDS - 1,
	.max_domain = AP_EMUL_IDS - 1,
};

/* The queue that an APQN names, or NULL. Its adapter may be out of order all the same: see response(). */
static struct ap_emul_queue *find(ap_qid_t qid)
{
	unsigned int apid = AP_QID_CARD(qid), apqi = AP_QID_QUEUE(qid);
	struct ap_emul_adapter *adapter = &ap_emul.adapters[apid];

	if (adapter->mode == MODE_NONE || apid > ap_emul.max_adapter ||
	    apqi > ap_emul.max_domain || !test_bit(apqi, ap_emul.domains))
		return NULL;
	return &adapter->queues[apqi];
}

/* What a queue, or none, answers to anything. */
static u8 response(ap_qid_t qid, struct ap_emul_queue *queue)
{
	unsigned int apid = AP_QID_CARD(qid);

	if (!queue)
		return AP_RESPONSE_Q_NOT_AVAIL;
	if (test_bit(apid, ap_emul.deconfigured))
		return AP_RESPONSE_DECONFIGURED;
	if (test_bit(apid, ap_emul.checkstopped))
		return AP_RESPONSE_CHECKSTOPPED;
	if (queue->resetting && time_before(jiffies, queue->reset_ends))
		return AP_RESPONSE_RESET_IN_PROGRESS;
	queue->resetting = false;
	return AP_RESPONSE_NORMAL;
}

static struct ap_queue_status status_of(const struct ap_emul_queue *queue, u8 rc)
{
	struct ap_queue_status status = { .response_code = rc };

	if (queue) {
		status.queue_empty = !queue->count;
		status.replies_waiting = queue->count > 0;
		status.queue_full = queue->count >= AP_EMUL_DEPTH;
		status.irq_enabled = queue->indicator != NULL;
	}
	return status;
}

static void describe(const struct ap_emul_adapter *adapter, struct ap_tapq_hwinfo *info)
{
	info->apsc = adapter->mode == MODE_CCA;
	info->mex4k = adapter->mode == MODE_ACCEL;
	info->crt4k = adapter->mode == MODE_ACCEL;
	info->cca = adapter->mode == MODE_CCA;
	info->accel = adapter->mode == MODE_ACCEL;
	info->ep11 = adapter->mode == MODE_EP11;
	info->apxa = 1;
	info->at = adapter->type;
	info->nd = ap_emul.max_domain;
	info->ml = AP_EMUL_CHUNKS;
	info->qd = AP_EMUL_DEPTH - 1;
}

struct ap_queue_status ap_emul_test(ap_qid_t qid, struct ap_tapq_hwinfo *info)
{
	struct ap_queue_status status;
	struct ap_emul_queue *queue;
	unsigned long flags;

	info->value = 0;
	spin_lock_irqsave(&ap_emul.lock, flags);
	queue = find(qid);
	status = status_of(queue, response(qid, queue));
	if (queue)
		describe(&ap_emul.adapters[AP_QID_CARD(qid)], info);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	return status;
}

void ap_emul_empty(struct ap_emul_queue *queue)
{
	struct ap_emul_reply *reply, *next;

	list_for_each_entry_safe(reply, next, &queue->replies, list) {
		list_del(&reply->list);
		kfree(reply);
	}
	queue->count = 0;
	queue->indicator = NULL;
}

/* Also zeroize: there is nothing in the queue that only it would wipe. */
struct ap_queue_status ap_emul_reset(ap_qid_t qid)
{
	struct ap_queue_status status;
	struct ap_emul_queue *queue;
	unsigned long flags;
	u8 rc;

	spin_lock_irqsave(&ap_emul.lock, flags);
	queue = find(qid);
	rc = response(qid, queue);
	if (!rc) {
		ap_emul_empty(queue);
		queue->resetting = ap_emul.reset_ms > 0;
		queue->reset_ends = jiffies + msecs_to_jiffies(ap_emul.reset_ms);
	}
	status = status_of(queue, rc);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	return status;
}

struct ap_queue_status ap_emul_interrupts(ap_qid_t qid, u8 *indicator)
{
	struct ap_queue_status status;
	struct ap_emul_queue *queue;
	unsigned long flags;
	u8 rc;

	spin_lock_irqsave(&ap_emul.lock, flags);
	queue = find(qid);
	rc = response(qid, queue);
	if (!rc && !indicator == !queue->indicator)
		rc = AP_RESPONSE_OTHERWISE_CHANGED;
	if (!rc)
		queue->indicator = indicator;
	status = status_of(queue, rc);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	return status;
}

/* QCI's masks count bits from the left: id 0 is the leftmost bit of the first word. */
static void store_mask(unsigned int *mask, const unsigned long *ids, unsigned int last)
{
	unsigned int id;

	for_each_set_bit(id, ids, last + 1)
		mask[id / 32] |= 1U << (31 - id % 32);
}

void ap_emul_query(struct ap_config_info *config)
{
	DECLARE_BITMAP(adapters, AP_EMUL_IDS);
	unsigned long flags;
	unsigned int apid;

	memset(config, 0, sizeof(*config));
	bitmap_zero(adapters, AP_EMUL_IDS);
	spin_lock_irqsave(&ap_emul.lock, flags);
	for (apid = 0; apid < AP_EMUL_IDS; apid++)
		if (ap_emul.adapters[apid].mode != MODE_NONE)
			__set_bit(apid, adapters);
	config->apsc = 1;
	config->apxa = 1;
	config->qact = 1;
	config->rc8a = 1;
	config->na = ap_emul.max_adapter;
	config->nd = ap_emul.max_domain;
	store_mask(config->apm, adapters, ap_emul.max_adapter);
	store_mask(config->aqm, ap_emul.domains, ap_emul.max_domain);
	store_mask(config->adm, ap_emul.control_as_domains ? ap_emul.domains : ap_emul.control,
		   ap_emul.max_domain);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
}

static u8 take(ap_qid_t qid, struct ap_emul_queue *queue, unsigned long psmid,
	       const void *message, size_t length)
{
	struct ap_emul_reply *reply;

	if (queue->count >= AP_EMUL_DEPTH)
		return AP_RESPONSE_Q_FULL;
	if (length > AP_EMUL_CHUNKS * 4096)
		return AP_RESPONSE_MESSAGE_TOO_BIG;
	reply = ap_emul_answer(&ap_emul.adapters[AP_QID_CARD(qid)], qid, message, length);
	if (!reply)
		return AP_RESPONSE_BUSY;
	reply->psmid = psmid;
	list_add_tail(&reply->list, &queue->replies);
	queue->count++;
	return AP_RESPONSE_NORMAL;
}

struct ap_queue_status ap_emul_send(ap_qid_t qid, unsigned long psmid,
				    const void *message, size_t length)
{
	struct ap_queue_status status;
	struct ap_emul_queue *queue;
	bool interrupt = false;
	unsigned long flags;
	u8 rc;

	spin_lock_irqsave(&ap_emul.lock, flags);
	queue = find(qid);
	rc = response(qid, queue);
	if (!rc)
		rc = take(qid, queue, psmid, message, length);
	if (!rc && queue->indicator) {
		WRITE_ONCE(*queue->indicator, 1);
		interrupt = true;
	}
	status = status_of(queue, rc);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	if (interrupt)
		ap_emul_interrupt();
	return status;
}

/*
 * Move the next bytes of the oldest reply to the buffer. In @out: psmid, the
 * bytes moved (taken), and those with what is still there (length).
 */
struct ap_queue_status ap_emul_receive(ap_qid_t qid, bool from_start,
				       void *buffer, size_t size,
				       struct ap_emul_reply *out)
{
	struct ap_queue_status status;
	struct ap_emul_reply *reply;
	struct ap_emul_queue *queue;
	unsigned long flags;
	u8 rc;

	spin_lock_irqsave(&ap_emul.lock, flags);
	queue = find(qid);
	rc = response(qid, queue);
	if (!rc && list_empty(&queue->replies))
		rc = AP_RESPONSE_NO_PENDING_REPLY;
	if (!rc) {
		reply = list_first_entry(&queue->replies, struct ap_emul_reply, list);
		if (from_start)
			reply->taken = 0;
		out->psmid = reply->psmid;
		out->length = reply->length - reply->taken;
		out->taken = min(size, out->length);
		memcpy(buffer, reply->data + reply->taken, out->taken);
		reply->taken += out->taken;
		if (reply->taken == reply->length) {
			list_del(&reply->list);
			kfree(reply);
			queue->count--;
		}
	}
	status = status_of(queue, rc);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	return status;
}
