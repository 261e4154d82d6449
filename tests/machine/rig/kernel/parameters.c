// SPDX-License-Identifier: GPL-2.0-only
/*
 * The knobs: options of the module, and files below
 * /sys/module/ap_emul/parameters while it runs. README.md says what each means.
 *
 * A write that changes the configuration tells the bus, unless notify is off,
 * and returns when the bus has rescanned. What is malformed changes nothing.
 */
#include <linux/ctype.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "ap_emul.h"

#define NEWEST_TYPE	14
#define ONE_KEY		0x0123456789abcdefULL	/* in every queue, if nothing else is said */

static bool notify = true;

static const char * const mode_names[MODES] = { "none", "accel", "cca", "ep11" };

static void tell(void)
{
	if (READ_ONCE(notify))
		ap_emul_changed();
}

/* "0a" or "00-3f", hexadecimal */
static int parse_ids(char *word, unsigned int *first, unsigned int *last)
{
	char *low = strsep(&word, "-");
	int rc = kstrtouint(low, 16, first);

	*last = *first;
	if (!rc && word)
		rc = kstrtouint(word, 16, last);
	if (!rc && (*first > *last || *last >= AP_EMUL_IDS))
		rc = -ERANGE;
	return rc;
}

/* Call @each with every word of a list with commas. */
static int each_word(const char *text, int (*each)(char *word, void *to), void *to)
{
	char *copy = kstrdup(text, GFP_KERNEL), *rest, *word;
	int rc = copy ? 0 : -ENOMEM;

	rest = copy ? strim(copy) : NULL;
	while (!rc && (word = strsep(&rest, ",")))
		if (*word)
			rc = each(word, to);
	kfree(copy);
	return rc;
}

static int add_ids(char *word, void *to)
{
	unsigned int first, last;
	int rc = parse_ids(word, &first, &last);

	if (!rc)
		bitmap_set(to, first, last - first + 1);
	return rc;
}

static int set_ids(const char *text, const struct kernel_param *kp)
{
	bool same = kp->arg == ap_emul.control && sysfs_streq(text, "same");
	DECLARE_BITMAP(ids, AP_EMUL_IDS);
	unsigned long flags;
	int rc;

	bitmap_zero(ids, AP_EMUL_IDS);
	rc = same ? 0 : each_word(text, add_ids, ids);
	if (rc)
		return rc;
	spin_lock_irqsave(&ap_emul.lock, flags);
	if (kp->arg == ap_emul.control)
		ap_emul.control_as_domains = same;
	bitmap_copy(kp->arg, ids, AP_EMUL_IDS);
	spin_unlock_irqrestore(&ap_emul.lock, flags);
	tell();
	return 0;
}

static int get_ids(char *page, const struct kernel_param *kp)
{
	unsigned int id;
	int n = 0;

	if (kp->arg == ap_emul.control && ap_emul.control_as_domains)
		return sysfs_emit(page, "same\n");
	for_each_set_bit(id, kp->arg, AP_EMUL_IDS)
		n += sysfs_emit_at(page, n, "%s%02x", n ? "," : "", id);
	return n + sysfs_emit_at(page, n, "\n");
}

static const struct kernel_param_ops ids = { .set = set_ids, .get = get_ids };

struct shape {
	u8 mode[AP_EMUL_IDS];
	u8 type[AP_EMUL_IDS];
};

/* "00-03=cca" or "0a=ep11:13" */
static int add_adapters(char *word, void *to)
{
	char *range = strsep(&word, "="), *mode = strsep(&word, ":");
	unsigned int first, last, type = NEWEST_TYPE;
	struct shape *shape = to;
	int rc, index;

	index = mode ? match_string(mode_names, MODES, mode) : -EINVAL;
	if (index < 0)
		return index;
	rc = parse_ids(range, &first, &last);
	if (!rc && word)
		rc = kstrtouint(word, 10, &type);
	if (!rc && (type < 1 || type > 255))
		rc = -ERANGE;
	if (rc)
		return rc;
	memset(shape->mode + first, index, last - first + 1);
	memset(shape->type + first, type, last - first + 1);
	return 0;
}

static struct ap_emul_queue *new_queues(void)
{
	struct ap_emul_queue *queues = kcalloc(AP_EMUL_IDS, sizeof(*queues), GFP_KERNEL);
	unsigned int apqi;

	for (apqi = 0; queues && apqi < AP_EMUL_IDS; apqi++)
		queues[apqi] = (struct ap_emul_queue) {
			.replies = LIST_HEAD_INIT(queues[apqi].replies),
			.pattern = ONE_KEY,
		};
	return queues;
}

/* The adapters of @shape shall have memory for queues; it is never taken away again. */
static int provide(const struct shape *shape)
{
	unsigned int apid;

	for (apid = 0; apid < AP_EMUL_IDS; apid++) {
		if (shape->mode[apid] == MODE_NONE || ap_emul.adapters[apid].queues)
			continue;
		ap_emul.adapters[apid].queues = new_queues();
		if (!ap_emul.adapters[apid].queues)
			return -ENOMEM;
	}
	return 0;
}

/* An adapter that goes takes along what its queues hold. */
static void set_adapter(struct ap_emul_adapter *adapter, enum ap_emul_mode mode, u8 type)
{
	unsigned int apqi;

	if (adapter->mode != mode && adapter->queues)
		for (apqi = 0; apqi < AP_EMUL_IDS; apqi++) {
			ap_emul_empty(&adapter->queues[apqi]);
			adapter->queues[apqi].resetting = false;
		}
	adapter->mode = mode;
	adapter->type = type;
}

/* The kernel calls the parameters of a module one at a time. */
static int set_adapters(const char *text, const struct kernel_param *kp)
{
	struct shape *shape = kzalloc(sizeof(*shape), GFP_KERNEL);
	unsigned long flags;
	unsigned int apid;
	int rc;

	if (!shape)
		return -ENOMEM;
	rc = each_word(text, add_adapters, shape);
	if (!rc)
		rc = provide(shape);
	if (!rc) {
		spin_lock_irqsave(&ap_emul.lock, flags);
		for (apid = 0; apid < AP_EMUL_IDS; apid++)
			set_adapter(&ap_emul.adapters[apid], shape->mode[apid], shape->type[apid]);
		spin_unlock_irqrestore(&ap_emul.lock, flags);
	}
	kfree(shape);
	if (!rc)
		tell();
	return rc;
}

static int get_adapters(char *page, const struct kernel_param *kp)
{
	const struct ap_emul_adapter *adapter;
	int n = 0;

	for (adapter = ap_emul.adapters; adapter < ap_emul.adapters + AP_EMUL_IDS; adapter++)
		if (adapter->mode != MODE_NONE)
			n += sysfs_emit_at(page, n, "%s%02x=%s:%u", n ? "," : "",
					   (unsigned int)(adapter - ap_emul.adapters),
					   mode_names[adapter->mode], adapter->type);
	return n + sysfs_emit_at(page, n, "\n");
}

static const struct kernel_param_ops adapters = { .set = set_adapters, .get = get_adapters };

/* "01.0001=HEX", "00-0a.00-ff=0": master keys of queues whose adapters are there */
static int set_key(char *word, void *to)
{
	char *adapters = strsep(&word, "."), *domains = strsep(&word, "=");
	unsigned int apid, last_apid, first, apqi, last;
	u64 pattern;
	int rc;

	if (!domains || !word)
		return -EINVAL;
	rc = parse_ids(adapters, &apid, &last_apid);
	if (!rc)
		rc = parse_ids(domains, &first, &last);
	if (!rc)
		rc = kstrtou64(word, 16, &pattern);
	for (; !rc && apid <= last_apid; apid++) {
		if (!ap_emul.adapters[apid].queues)
			return -ENODEV;
		for (apqi = first; apqi <= last; apqi++)
			WRITE_ONCE(ap_emul.adapters[apid].queues[apqi].pattern, pattern);
	}
	return rc;
}

/* Other queues keep theirs, and a card that goes and comes back has them still. */
static int set_keys(const char *text, const struct kernel_param *kp)
{
	return each_word(text, set_key, NULL);
}

static const struct kernel_param_ops keys = { .set = set_keys };

module_param_cb(adapters, &adapters, NULL, 0644);
module_param_cb(keys, &keys, NULL, 0200);
module_param_cb(domains, &ids, ap_emul.domains, 0644);
module_param_cb(control, &ids, ap_emul.control, 0644);
module_param_cb(deconfigured, &ids, ap_emul.deconfigured, 0644);
module_param_cb(checkstopped, &ids, ap_emul.checkstopped, 0644);
module_param_named(reset_ms, ap_emul.reset_ms, uint, 0644);
module_param_named(max_adapter, ap_emul.max_adapter, byte, 0444);
module_param_named(max_domain, ap_emul.max_domain, byte, 0444);
module_param_named(irq, ap_emul.irq, bool, 0444);
module_param_named(enabled, ap_emul.enabled, bool, 0644);
module_param(notify, bool, 0644);

/* Without options: one card of each mode, four domains. There is no way out: drivers hold the hardware. */
static int __init ap_emul_init(void)
{
	const struct kernel_param none = {}, domains = { .arg = ap_emul.domains };
	unsigned int apid = 0;
	int rc = 0;

	while (apid < AP_EMUL_IDS && ap_emul.adapters[apid].mode == MODE_NONE)
		apid++;
	if (apid == AP_EMUL_IDS)
		rc = set_adapters("00=accel,01=cca,0a=ep11", &none);
	if (!rc && bitmap_empty(ap_emul.domains, AP_EMUL_IDS))
		rc = set_ids("01,02,04,1b", &domains);
	if (!rc)
		rc = ap_emul_trap_instructions();
	if (!rc)
		ap_emul_announce();
	return rc;
}
module_init(ap_emul_init);

MODULE_DESCRIPTION("Adjunct processors in software");
MODULE_LICENSE("GPL");
