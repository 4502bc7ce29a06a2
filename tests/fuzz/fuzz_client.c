/* Fuzzes the client's connections with nodes that lie, stall and go, driven by a script of commands.
 * Whatever they do, a batch ends by its deadline with a legal status for every key, memory of the
 * caller is touched only while the batch runs (asan), and a value that is said to be right is.
 *
 *   0         1         2                   commands
 *   ┌─────────┬─────────┬───────────────────────┐
 *   │ items,  │ requests│ verb u8, arguments ...│  when they are used up, nodes are honest
 *   │ u8      │ u8      │                       │
 *   └─────────┴─────────┴───────────────────────┘
 *   items and requests: what nodes grant. */

#include "client_nodes.h"

#include <stdio.h>

#define TIMEOUT_MS 800u
#define LATE_MS 100u /* beyond the deadline: how late the client may look at its clock */
#define BATCHES_MAX 12u
#define NS_PER_MS 1000000u
#define SLOTS 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum verb {
    VERB_ANSWER,     /* honestly: which node, which request */
    VERB_TREAT,      /* answer: node and request, items, status and damage, at, bits */
    VERB_GARBLE,     /* a byte that is on its way: node, at, bits */
    VERB_BABBLE,     /* so many bytes of the script: node, count, bytes */
    VERB_CLOSE,      /* node, how */
    VERB_REFUSE,     /* connections: whether */
    VERB_MUTE,       /* hellos: whether */
    VERB_RECEIVE,    /* bytes that are told at a time */
    VERB_SEND,       /* bytes that are taken at a time; 0: later */
    VERB_WAIT,       /* milliseconds */
    VERB_CANCEL,
    VERB_ROUTE,      /* members of the chains */
    VERB_END,        /* the rest is for the next batch */
    VERB_COUNT
} verb;

static struct {
    const uint8_t *at, *end;
    kv_client *client;
    kv_request *request;
    uint64_t routing_version;
    bool still; /* until the next batch */
} script;

static uint8_t next(void)
{
    return script.at < script.end ? *script.at++ : 0;
}

static link *next_link(uint8_t *rest)
{
    uint8_t byte = next();

    *rest = byte / LINKS_MAX;
    return &network.links[byte % LINKS_MAX];
}

/* ---- commands ---- */

static void treat(void)
{
    uint8_t which, kind;
    link *where = next_link(&which);
    treatment how = {.items_max = 1 + next() % ITEMS_MAX};

    kind = next();
    how.damage = (damage)((kind & 7) % DAMAGE_COUNT);
    how.keep = (kind & 8) != 0;
    how.whole = (kind & 16) != 0;
    how.status = (kind & 32) != 0 ? next() % (KV_DIRTY + 1) : KV_OK;
    how.at = next();
    how.bits = next();
    nodes.lied |= how.damage == DAMAGE_COLUMNS || how.damage == DAMAGE_HEAD || how.keep;
    node_answer(where, which, &how);
}

static void garble(void)
{
    uint8_t rest;
    link *where = next_link(&rest);
    size_t size = where->outbox.end - where->outbox.begin, at = next();
    uint8_t bits = next();

    if (where->socket && size > 0)
        where->outbox.bytes[where->outbox.begin + at % size] ^= bits;
}

static void babble(void)
{
    uint8_t count;
    link *where = next_link(&count);
    size_t left = (size_t)(script.end - script.at);
    size_t size = count < left ? count : left;

    if (where->socket)
        reply_send(where, script.at, size);
    script.at += size;
}

static void close_one(void)
{
    uint8_t how;
    link *where = next_link(&how);

    if (where->socket)
        link_end(where, how % 2 ? -ECONNRESET : 0);
}

static void route(uint8_t members)
{
    static const char *const names[NODES] = {"127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"};
    static const uint32_t slots[SLOTS] = {0, 1, 0, 1};
    kv_chain_member all[NODES] = {{0, 0}, {1, 1}, {2, 2}};
    uint64_t version = ++script.routing_version;
    kv_chain_route chains[2] = {{version, members % NODES, members / 4 % 4},
                                {version, members / 16 % NODES, members / 64 % 4}};
    char message[KV_MESSAGE_SIZE];

    for (uint32_t i = 0; i < 2; i++)
        if (chains[i].member_count > NODES - chains[i].member_first)
            chains[i].member_count = NODES - chains[i].member_first;
    assert(kv_client_route_chains(script.client, version, names, NODES, all, NODES, chains, 2,
                                  slots, SLOTS, message) == 0);
}

static void command(void)
{
    static const treatment honest = {.items_max = ITEMS_MAX};
    uint8_t which;
    link *where;

    switch ((verb)(next() % VERB_COUNT)) {
    case VERB_ANSWER:
        where = next_link(&which);
        node_answer(where, which, &honest);
        break;
    case VERB_TREAT:
        treat();
        break;
    case VERB_GARBLE:
        garble();
        break;
    case VERB_BABBLE:
        babble();
        break;
    case VERB_CLOSE:
        close_one();
        break;
    case VERB_REFUSE:
        network.refuses = next() % 2;
        break;
    case VERB_MUTE:
        nodes.mute = next() % 2;
        break;
    case VERB_RECEIVE:
        network.receive_max = 1u + ((uint32_t)next() << next() % 12);
        break;
    case VERB_SEND:
        network.send_max = (uint32_t)next() << next() % 12;
        break;
    case VERB_WAIT:
        network.now_ns += next() * (uint64_t)NS_PER_MS;
        break;
    case VERB_CANCEL:
        kv_client_cancel(script.client, script.request);
        break;
    case VERB_ROUTE:
        route(next());
        break;
    default:
        script.still = true;
    }
}

/* Of the network: there is nothing to tell. */
static bool script_idle(void)
{
    static const treatment honest = {.items_max = ITEMS_MAX};

    if (script.at < script.end && !script.still) {
        command();
        return true;
    }
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        if (node_answer(&network.links[i], 0, &honest))
            return true;
    return false;
}

/* ---- batches ---- */

typedef struct batch {
    kv_request request;
    kv_item items[ITEMS_MAX];
    kv_item_stat stats[ITEMS_MAX];
    uint8_t keys[ITEMS_MAX][KEY_SIZE + 1];
} batch;

static void batch_begin(batch *all)
{
    static const uint32_t operations[] = {KV_OP_GET,    KV_OP_SET,  KV_OP_GET, KV_OP_EXISTS,
                                          KV_OP_DELETE, KV_OP_STAT, KV_OP_PIN, KV_OP_MATCH_PREFIX,
                                          KV_OP_UNPIN,  KV_OP_FLUSH};
    uint8_t first = next(), narrow; /* one in so many buffers is too small */

    memset(all, 0, sizeof(*all));
    all->request = (kv_request){.items = all->items,
                                .stats = all->stats,
                                .operation = operations[next() % 10],
                                .timeout_ms = TIMEOUT_MS};
    if (all->request.operation == KV_OP_FLUSH)
        return;
    all->request.count = 1 + next() % ITEMS_MAX;
    narrow = 1 + next() % 8;
    for (uint32_t i = 0; i < all->request.count; i++) {
        kv_item *item = &all->items[i];

        snprintf((char *)all->keys[i], KEY_SIZE + 1, "k-%02u", (first + i) % KEYS_MAX);
        item->key = (uintptr_t)all->keys[i];
        item->key_size = KEY_SIZE;
        item->status = -1;
        if (all->request.operation != KV_OP_SET && all->request.operation != KV_OP_GET)
            continue;
        item->value_size = value_size(all->keys[i]);
        if (all->request.operation == KV_OP_GET && i % narrow == 1)
            item->value_size /= 2;
        item->value = (uintptr_t)malloc(item->value_size + 1u);
        assert(item->value);
        memset((void *)(uintptr_t)item->value, 0x5a, item->value_size);
    }
}

static bool status_is_legal(int32_t status)
{
    return status >= KV_OK && status <= KV_OUTCOME_UNKNOWN;
}

static void batch_check(const batch *all)
{
    for (uint32_t i = 0; i < all->request.count; i++) {
        const kv_item *item = &all->items[i];

        if (all->request.operation == KV_OP_MATCH_PREFIX)
            break;
        assert(status_is_legal(item->status));
        if (all->request.operation != KV_OP_GET || item->status != KV_OK || nodes.lied)
            continue;
        assert(item->result_size == value_size(all->keys[i]));
        assert(memcmp((void *)(uintptr_t)item->value, value_of(all->keys[i]), item->result_size) ==
               0);
    }
    assert(all->request.matched <= all->request.count);
}

static void batch_run(void)
{
    static batch all;
    uint64_t begun_ns;

    batch_begin(&all);
    script.request = &all.request;
    script.still = false;
    begun_ns = network.now_ns;
    kv_client_run(script.client, &all.request);
    /* One wait of the script may lie across the deadline. */
    assert(network.now_ns - begun_ns <= (TIMEOUT_MS + LATE_MS + UINT8_MAX) * (uint64_t)NS_PER_MS);
    batch_check(&all);
    for (uint32_t i = 0; i < all.request.count; i++)
        free((void *)(uintptr_t)all.items[i].value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const kv_client_options options = {.timeout_ms = TIMEOUT_MS};
    char message[KV_MESSAGE_SIZE];

    if (size < 2)
        return 0;
    memset(&script, 0, sizeof(script));
    script.at = data + 2;
    script.end = data + size;
    network.idle = script_idle;
    network.opened = node_opened;
    network.arrived = node_arrived;
    network_reset();
    memset(nodes.sequences, 0, sizeof(nodes.sequences));
    nodes.mute = nodes.lied = false;
    nodes.grant = (kv_hello_grant){.rights = KV_RIGHT_READ | KV_RIGHT_WRITE | KV_RIGHT_ADMINISTER,
                                   .requests_max = 1 + data[1] % 16,
                                   .count_max = 1 + data[0] % ITEMS_MAX,
                                   .columns_size_max = KV_MESSAGE_COLUMNS_SIZE_MAX,
                                   .values_size_max = KV_MESSAGE_VALUES_SIZE_MAX,
                                   .stall_timeout_ms = 1000,
                                   .node = 1,
                                   .run = 11};
    network.running = true;
    assert(kv_client_open(&options, &script.client, message) == 0);
    route(0xcc); /* both chains: all nodes, from the first on */
    for (uint32_t i = 0; i < BATCHES_MAX && (i == 0 || script.at < script.end); i++)
        batch_run();
    assert(kv_client_close(script.client, TIMEOUT_MS) == 0);
    network.running = false;
    return 0;
}
