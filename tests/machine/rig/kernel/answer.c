// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an adapter replies. There is no cryptography here; coprocessors tell
 * who they are and which master keys they hold, as the attributes serialnr,
 * mkvps, API_ordinalnr, FW_version and op_modes ask them. To anything else the
 * reply is that the request is not understood.
 *
 * A request is a header (type 6), a connectivity programming request block and
 * its parameters; the reply has a header (type 86) and the same. What is in
 * them is what zcrypt_ccamisc.c and zcrypt_ep11misc.c send and expect.
 */
#include <linux/slab.h>
#include <asm/zcrypt.h>
#include "ap_emul.h"
#include "../zcrypt_error.h"
#include "../zcrypt_msgtype6.h"

struct reply_header {
	struct type86_hdr hdr;
	struct type86_fmt2_ext fmt2;
} __packed;

static struct ap_emul_reply *new_reply(size_t length)
{
	struct ap_emul_reply *reply = kzalloc(struct_size(reply, data, length), GFP_ATOMIC);

	if (reply)
		reply->length = length;
	return reply;
}

static struct ap_emul_reply *not_understood(void)
{
	struct ap_emul_reply *reply = new_reply(sizeof(struct error_hdr));
	struct error_hdr *error;

	if (reply) {
		error = (struct error_hdr *)reply->data;
		error->type = TYPE82_RSP_CODE;
		error->reply_code = REP82_ERROR_MALFORMED_MSG;
	}
	return reply;
}

/* A reply with room for a block and @more bytes behind it. */
static struct ap_emul_reply *reply_with(size_t block, size_t more)
{
	struct ap_emul_reply *reply = new_reply(sizeof(struct reply_header) + block + more);
	struct reply_header *header;

	if (reply) {
		header = (struct reply_header *)reply->data;
		header->hdr.type = TYPE86_RSP_CODE;
		header->hdr.format = TYPE86_FMT2;
		header->fmt2.count1 = block + more;
		header->fmt2.offset1 = sizeof(*header);
		header->fmt2.offset2 = sizeof(*header) + block + more;
	}
	return reply;
}

/*
 * CCA's "query crypto facility": a keyword, and as reply an array of 8-byte
 * words that begin with a state, and an array of bytes with the verification
 * patterns. Where things are in them: cca_get_info().
 */
struct cca_query {
	struct CPRBX cprb;
	u8 function[2];
	u16 length;
	char keyword[8];
} __packed;

#define WORDS	13
#define BYTES	240

struct cca_facts {
	struct CPRBX cprb;
	u8 function[2];
	u16 words_length;
	char words[WORDS][8];
	u16 bytes_length;
	u8 bytes[BYTES];
} __packed;

struct cca_key {
	u8 new_state;		/* index of the word; the current and the old key's follow */
	u8 pattern;		/* index of the byte */
	u8 size;
};

static void tell_key(struct cca_facts *facts, const struct cca_key *key, u64 pattern)
{
	unsigned int i;

	facts->words[key->new_state][0] = '1';				/* empty */
	facts->words[key->new_state + 1][0] = pattern ? '2' : '1';	/* valid, or not */
	facts->words[key->new_state + 2][0] = '1';
	for (i = 0; i < key->size; i += sizeof(pattern))
		memcpy(facts->bytes + key->pattern + i, &pattern, sizeof(pattern));
}

static struct ap_emul_reply *answer_cca(ap_qid_t qid, u64 pattern,
					const struct cca_query *query, size_t length)
{
	static const struct cca_key asym = { 4, 84, 16 }, aes = { 7, 184, 8 }, apka = { 10, 220, 8 };
	struct ap_emul_reply *reply;
	struct cca_facts *facts;
	char serial[9];

	if (length < sizeof(*query) || memcmp(query->function, "FQ", 2) ||
	    memcmp(query->keyword, "STATICS", 7))
		return not_understood();
	reply = reply_with(sizeof(facts->cprb), sizeof(*facts) - sizeof(facts->cprb));
	if (!reply)
		return NULL;
	facts = (struct cca_facts *)(reply->data + sizeof(struct reply_header));
	facts->cprb = query->cprb;
	facts->cprb.rpld_parml = sizeof(*facts) - sizeof(facts->cprb);
	memcpy(facts->function, query->function, sizeof(facts->function));
	facts->words_length = sizeof(facts->words_length) + sizeof(facts->words);
	facts->bytes_length = sizeof(facts->bytes_length) + sizeof(facts->bytes);
	memset(facts->words, ' ', sizeof(facts->words));
	snprintf(serial, sizeof(serial), "EMUL00%02X", AP_QID_CARD(qid));
	memcpy(facts->words[0], serial, sizeof(facts->words[0]));
	if (query->keyword[7] == 'A') {
		tell_key(facts, &asym, pattern);
		tell_key(facts, &aes, pattern);
	} else {
		tell_key(facts, &apka, pattern);
	}
	return reply;
}

/* EP11's "get information": fields with ASN.1 tags, all of the sizes that ep11_query_info() sends. */
struct ep11_head {
	u8 tag, length_format;
	u16 length;
	u8 function_tag, function_length;
	u32 function;
	u8 domain_tag, domain_length;
	u32 domain;
} __packed;

struct ep11_query {
	struct ep11_cprb cprb;
	struct ep11_head head;
	u8 type_tag, type_length;
	u32 type;
} __packed;

struct ep11_facts {
	struct ep11_cprb cprb;
	struct ep11_head head;
	u8 rc_tag, rc_length;
	u32 rc;
	u8 data_tag, data_length_format;
	u16 data_length;
	u8 data[];
} __packed;

#define EP11_GET_INFO	38

/* How ep11_get_card_info() begins to read; the rest is 0. */
struct ep11_module {
	u32 api;
	u32 firmware_id;
	u8 firmware[2];
	u8 csp[2];
	u8 hashes[3][32];
	char serial[16];
	u8 rest[72];
} __packed;

struct ep11_domain {
	u32 index;
	u8 current_pattern[32];
	u8 new_pattern[32];
	u32 flags;		/* 0x10: left imprint mode, 0x02: the current key is valid */
	u64 modes;
} __packed;

static void tell_module(ap_qid_t qid, struct ep11_module *module)
{
	char serial[17];

	module->api = 4;
	module->firmware[0] = 6;
	module->firmware[1] = 7;
	snprintf(serial, sizeof(serial), "EMUL0000000000%02X", AP_QID_CARD(qid));
	memcpy(module->serial, serial, sizeof(module->serial));
}

static void tell_domain(ap_qid_t qid, u64 pattern, struct ep11_domain *domain)
{
	unsigned int i;

	domain->index = AP_QID_QUEUE(qid);
	domain->flags = pattern ? 0x12 : 0x10;
	for (i = 0; i < sizeof(domain->current_pattern); i += sizeof(pattern))
		memcpy(domain->current_pattern + i, &pattern, sizeof(pattern));
}

static struct ap_emul_reply *answer_ep11(ap_qid_t qid, u64 pattern,
					 const struct ep11_query *query, size_t length)
{
	size_t size = length >= sizeof(*query) && (query->head.function & 0xffff) == EP11_GET_INFO ?
		      query->type == 1 ? sizeof(struct ep11_module) :
		      query->type == 3 ? sizeof(struct ep11_domain) : 0 : 0;
	struct ap_emul_reply *reply;
	struct ep11_facts *facts;

	if (!size)
		return not_understood();
	reply = reply_with(sizeof(facts->cprb), sizeof(*facts) - sizeof(facts->cprb) + size);
	if (!reply)
		return NULL;
	facts = (struct ep11_facts *)(reply->data + sizeof(struct reply_header));
	facts->cprb = query->cprb;
	facts->cprb.ret_code = 0;
	facts->cprb.payload_len = sizeof(*facts) - sizeof(facts->cprb) + size;
	facts->head = query->head;
	facts->head.length = facts->cprb.payload_len - offsetof(struct ep11_head, function_tag);
	facts->rc_tag = 0x04;
	facts->rc_length = sizeof(facts->rc);
	facts->data_tag = 0x04;
	facts->data_length_format = 0x82;
	facts->data_length = size;
	if (query->type == 1)
		tell_module(qid, (struct ep11_module *)facts->data);
	else
		tell_domain(qid, pattern, (struct ep11_domain *)facts->data);
	return reply;
}

struct ap_emul_reply *ap_emul_answer(const struct ap_emul_adapter *adapter, ap_qid_t qid,
				     const void *message, size_t length)
{
	const struct type6_hdr *header = message;
	u64 pattern = adapter->queues[AP_QID_QUEUE(qid)].pattern;

	if (length < sizeof(*header) || header->type != 0x06)
		return not_understood();
	message += sizeof(*header);
	length -= sizeof(*header);
	if (adapter->mode == MODE_CCA)
		return answer_cca(qid, pattern, message, length);
	if (adapter->mode == MODE_EP11)
		return answer_ep11(qid, pattern, message, length);
	return not_understood();
}
