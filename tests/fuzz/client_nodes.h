/* The nodes of fuzz_client: they take whole messages, check that what the client sends is legal, and
 * answer when the script says so, and as it says. What a key's value is follows from the key. */
#ifndef CLIENT_NODES_H
#define CLIENT_NODES_H

#include "client_network.h"

#include "bytes/endian.h"
#include "protocol/hello.h"
#include "protocol/reply.h"
#include "protocol/request.h"

#define NODES 3u
#define ITEMS_MAX 24u
#define KEY_SIZE 4u /* "k-" and two digits */
#define REQUESTS_MAX 64u
#define VALUE_SIZE_MAX 70000u
#define KEYS_MAX 100u
#define CHANNELS_SEEN_MAX 16384u
#define REPLY_SIZE_MAX (64u << 10)

/* A request that waits for its answer. */
typedef struct asked {
    uint64_t id;
    uint32_t operation; /* 0: control */
    uint32_t count;
    uint32_t next; /* item to answer */
    uint32_t channel;
    uint64_t sequence; /* updates; else 0 */
    uint8_t keys[ITEMS_MAX][KEY_SIZE];
    uint32_t rooms[ITEMS_MAX];
} asked;

typedef struct node_end {
    kv_hello hello;
    asked requests[REQUESTS_MAX];
    uint32_t count;
} node_end;

static struct {
    node_end ends[LINKS_MAX]; /* by link */
    kv_hello_grant grant;
    bool mute;                              /* no hello is answered */
    bool lied; /* something was said that no client can tell from the truth */
    uint64_t sequences[CHANNELS_SEEN_MAX];  /* of first sendings that came whole */
    uint8_t pattern[VALUE_SIZE_MAX + KEYS_MAX];
} nodes;

/* ---- values ---- */

static uint32_t value_size(const uint8_t key[KEY_SIZE])
{
    static const uint32_t sizes[] = {0, 5, 700, 5000, 20000, VALUE_SIZE_MAX, 64, 4096};

    return sizes[key[KEY_SIZE - 1] % 8];
}

/* Every value is a piece of one pattern, and begins at a place of its own. */
static const uint8_t *value_of(const uint8_t key[KEY_SIZE])
{
    if (!nodes.pattern[0])
        for (uint32_t i = 0; i < sizeof(nodes.pattern); i++)
            nodes.pattern[i] = (uint8_t)(1 + i * 7 + (i >> 8));
    return nodes.pattern + (key[2] - '0') * 10 + (key[3] - '0');
}

/* ---- what comes ---- */

static node_end *end_of(const link *where)
{
    return &nodes.ends[where - network.links];
}

static void reply_send(link *where, const void *bytes, size_t size)
{
    if (buffer_room(&where->outbox) < size)
        link_end(where, -ECONNRESET);
    else
        buffer_add(&where->outbox, bytes, size);
}

static void hello_take(link *where, const kv_message_head *head, const uint8_t *bytes)
{
    static uint8_t out[KV_HELLO_MESSAGE_SIZE_MAX];
    int size;

    if (nodes.mute)
        return;
    size = kv_hello_step(&end_of(where)->hello, head, bytes, out);
    assert(size >= 0);
    reply_send(where, out, (size_t)size);
}

/* A first sending is newer than whatever came on its channel; what was sent before says so. */
static void sequence_check(const kv_wire_request *request)
{
    uint64_t *seen = &nodes.sequences[request->channel];

    assert(request->channel < CHANNELS_SEEN_MAX);
    if (request->repeated)
        return;
    assert(nodes.lied || request->sequence > *seen);
    *seen = request->sequence;
}

static void request_take(link *where, const kv_message_head *head, const uint8_t *columns)
{
    node_end *end = end_of(where);
    asked *next = &end->requests[end->count];
    kv_wire_request request;
    const uint8_t *key;

    assert(end->hello.state == KV_HELLO_DONE && end->count < REQUESTS_MAX);
    *next = (asked){.id = head->request};
    end->count++;
    if (head->kind == KV_MESSAGE_CONTROL)
        return;
    assert(kv_request_decode(head, columns, &request, NULL) == 0);
    assert(request.count <= nodes.grant.count_max && request.count <= ITEMS_MAX);
    if (kv_request_updates(request.operation))
        sequence_check(&request);
    next->operation = request.operation;
    next->channel = request.channel;
    next->sequence = request.sequence;
    next->count = request.count;
    key = request.keys;
    for (uint32_t i = 0; i < request.count; i++) {
        assert(kv_endian_load_u16(request.key_sizes + (size_t)i * 2) == KEY_SIZE);
        memcpy(next->keys[i], key, KEY_SIZE);
        key += KEY_SIZE;
        next->rooms[i] =
            request.value_sizes ? kv_endian_load_u32(request.value_sizes + (size_t)i * 4) : 0;
    }
}

/* Take the messages that are complete. */
static void node_arrived(link *where)
{
    buffer *inbox = &where->inbox;

    while (inbox->end - inbox->begin >= KV_MESSAGE_HEAD_SIZE) {
        const uint8_t *bytes = inbox->bytes + inbox->begin;
        kv_message_head head;
        size_t size;

        assert(kv_message_decode(bytes, &head) == 0);
        size = (size_t)KV_MESSAGE_HEAD_SIZE + head.columns_size + head.values_size;
        if (inbox->end - inbox->begin < size)
            return;
        assert(kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, head.columns_size) == 0);
        if (head.kind < KV_MESSAGE_REQUEST)
            hello_take(where, &head, bytes);
        else if (head.kind != KV_MESSAGE_CANCEL)
            request_take(where, &head, bytes + KV_MESSAGE_HEAD_SIZE);
        inbox->begin += size;
    }
}

static void node_opened(link *opened)
{
    static const uint8_t nonce[KV_NONCE_SIZE] = {1};
    node_end *end = end_of(opened);

    end->count = 0;
    kv_hello_begin_node(&end->hello, &nodes.grant, NULL, 0, nonce);
}

/* ---- answers ---- */

typedef enum damage {
    DAMAGE_NONE,
    DAMAGE_VALUE,
    DAMAGE_CHECKSUM,
    DAMAGE_COLUMNS, /* a byte, sealed again */
    DAMAGE_HEAD,
    DAMAGE_INDEX, /* of every second item: that of its neighbour */
    DAMAGE_ROOM,  /* more than there is room for */
    DAMAGE_COUNT
} damage;

/* How an answer differs from an honest one. */
typedef struct treatment {
    uint32_t items_max; /* of this answer; fewer than there are: it is not the last */
    int32_t status;     /* of every item, or KV_OK: what it honestly is */
    bool whole;         /* the status is the request's, and no item is said */
    damage damage;
    uint32_t at;
    uint8_t bits;
    bool keep;          /* the request stays open: it may be answered again */
} treatment;

static void item_answer(const asked *request, uint32_t i, const treatment *how, kv_reply_item *item)
{
    uint32_t size = value_size(request->keys[i]);

    *item = (kv_reply_item){.index = i, .status = how->status, .size = size, .version = 7};
    if (how->status != KV_OK)
        return;
    if (how->damage == DAMAGE_INDEX)
        item->index |= 1;
    if (item->index >= request->count)
        item->index = i;
    size = item->size = value_size(request->keys[item->index]);
    if (request->operation == KV_OP_GET && size > request->rooms[item->index] &&
        how->damage != DAMAGE_ROOM)
        item->status = KV_BUFFER_TOO_SMALL;
    item->checksum = kv_checksum(0, value_of(request->keys[item->index]), size);
    item->checksum ^= how->damage == DAMAGE_CHECKSUM;
}

static void values_send(link *where, const asked *request, const kv_reply_item *items,
                        uint32_t count, const treatment *how)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = items[i].size;

        if (request->operation != KV_OP_GET || items[i].status != KV_OK)
            continue;
        reply_send(where, value_of(request->keys[items[i].index]), size);
        if (how->damage == DAMAGE_VALUE && size > 0 && !where->gone)
            where->outbox.bytes[where->outbox.end - size + how->at % size] ^= how->bits | 1;
    }
}

static void columns_damage(const treatment *how, uint8_t *columns, uint32_t size)
{
    if (how->damage != DAMAGE_COLUMNS || size <= KV_MESSAGE_CRC_SIZE)
        return;
    columns[KV_MESSAGE_CRC_SIZE + how->at % (size - KV_MESSAGE_CRC_SIZE)] ^= how->bits;
    kv_message_seal(columns, size);
}

static void head_damage(const treatment *how, kv_message_head *head)
{
    if (how->damage != DAMAGE_HEAD)
        return;
    head->request ^= how->at % 3 == 0 ? how->bits : 0;
    head->flags ^= how->at % 3 == 1 ? how->bits : 0;
    head->count ^= how->at % 3 == 2 ? how->bits : 0;
}

static void control_answer(link *where, const asked *request, const treatment *how)
{
    kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX,
                            .kind = KV_MESSAGE_CONTROL_REPLY,
                            .request = request->id,
                            .count = how->status == KV_OK ? 0 : EIO};
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

    head_damage(how, &head);
    kv_message_encode(&head, bytes);
    reply_send(where, bytes, sizeof(bytes));
}

static void request_answer(link *where, asked *request, const treatment *how)
{
    static uint8_t bytes[REPLY_SIZE_MAX];
    kv_reply_item items[ITEMS_MAX];
    uint32_t left = request->count - request->next;
    uint32_t count = how->whole || request->operation == KV_OP_MATCH_PREFIX ? 0 : left;
    kv_wire_reply reply = {.operation = request->operation};
    kv_message_head head = {
        .version = KV_PROTOCOL_VERSION_MAX, .kind = KV_MESSAGE_REPLY, .request = request->id};

    if (count > how->items_max)
        count = how->items_max;
    for (uint32_t i = 0; i < count; i++) {
        item_answer(request, request->next + i, how, &items[i]);
        if (request->operation == KV_OP_GET && items[i].status == KV_OK)
            head.values_size += items[i].size;
    }
    head.flags = how->whole || count == left || count == 0 ? KV_REPLY_LAST : 0;
    reply.status = how->whole ? how->status : KV_OK;
    reply.matched = request->operation == KV_OP_MATCH_PREFIX && !how->whole ? request->count : 0;
    reply.count = head.count = count;
    head.columns_size = kv_reply_encode(&reply, items, bytes + KV_MESSAGE_HEAD_SIZE);
    columns_damage(how, bytes + KV_MESSAGE_HEAD_SIZE, head.columns_size);
    head_damage(how, &head);
    kv_message_encode(&head, bytes);
    reply_send(where, bytes, KV_MESSAGE_HEAD_SIZE + head.columns_size);
    values_send(where, request, items, count, how);
    request->next += how->keep ? 0 : count;
    /* Who is too busy has recorded nothing: the same comes again as a first sending. */
    if (how->whole && how->status == KV_BUSY && request->sequence > 0)
        nodes.sequences[request->channel] = request->sequence - 1;
}

/* Answer one of the requests that wait; false: none does. */
static bool node_answer(link *where, uint32_t which, const treatment *how)
{
    node_end *end = end_of(where);
    asked *request = &end->requests[end->count ? which % end->count : 0];

    if (!where->socket || where->gone || end->count == 0)
        return false;
    if (request->operation == 0)
        control_answer(where, request, how);
    else
        request_answer(where, request, how);
    if (!how->keep && (request->next == request->count || how->whole ||
                       request->operation == KV_OP_MATCH_PREFIX))
        *request = end->requests[--end->count];
    return true;
}

#endif
