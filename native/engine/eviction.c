/* The eviction policy: an adaptive replacement cache (ARC, Megiddo and Modha, FAST '03) that
 * knows batches.
 *
 *               insert                        touch
 *   unknown ------------> RECENT (seen once) -------> FREQUENT (seen again) --+ touch: newest again
 *      ^                     |                           |    ^  ^------------+
 *      |                     v           evict           v    |
 *      +---- forgotten -- ghosts <----------------------------+ insert again
 *
 * Both queues run from newest to oldest and lose their oldest. RECENT has a target, a share of
 * all entries: above it RECENT loses one, else FREQUENT. A ghost that returns says that its queue
 * was too short, and moves the target, by more the fewer ghosts that queue has: so the target
 * rests where one entry more would bring equally many hits in either queue. ARC's own steps
 * favour the queue that evicts more.
 *
 * What else differs from ARC was measured on traces that share prefixes and on Zipf, scan and
 * recency mixes:
 * - Within a batch a key of higher rank is put behind (older than) that of lower rank: without
 *   its prefix an entry is worth nothing, so tails leave first.
 * - RECENT starts with a tenth: most entries of a cold cache are never seen again.
 * - Ghosts outnumber entries two to one, and all live equally long: a ghost list that forgets
 *   some keys of a batch sooner than others tears holes into prefixes.
 * - An entry of FREQUENT touched three times since it was last spared is spared when it is the
 *   oldest.
 *
 * Invariants: an inserted handle is on exactly one queue until it is removed or picked; the count
 * of a queue is the length of its list; the oldest has no older neighbour and the newest no newer
 * one. Every operation is O(1); pick is so amortised, as what it passes over becomes the newest.
 *
 * Left to the user: the nodes, locking, and when to evict. */
#include "engine/eviction.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine/eviction_ghosts.h"

enum {
    QUEUE_NONE = 0,
    QUEUE_RECENT = 1,
    QUEUE_FREQUENT = 2,
    QUEUE_COUNT = 3,
};

#define FREQUENCY_MAX 3 /* touches that earn one more round */

#define SHARE_ONE (1ull << 32)
#define SHARE_INITIAL (SHARE_ONE / 10)
/* A returning ghost moves the target by count / STEP_DIVISOR entries, within the first two
 * bounds, times the imbalance of the ghost counts, within the last (all with 16 fraction bits).
 * Small sets need small steps: one batch is a large part of them. */
#define STEP_DIVISOR 4000u
#define STEP_BASE_MIN (1ull << 15)
#define STEP_BASE_MAX (8ull << 16)
#define STEP_MAX (64ull << 16)

typedef struct queue {
    uint32_t newest, oldest;
    uint32_t anchor; /* the entry placed last, 0 when it left this place since */
    uint32_t anchor_rank;
    uint64_t count;
} queue;

struct kv_eviction {
    kv_eviction_load *load;
    kv_eviction_store *store;
    void *context;
    queue queues[QUEUE_COUNT];
    kv_eviction_ghosts ghosts;
    uint64_t recent_share; /* RECENT's target, of all entries, in 1 / SHARE_ONE */
};

static kv_eviction_node load_node(const kv_eviction *eviction, uint32_t handle)
{
    kv_eviction_node node;

    assert(handle != 0);
    eviction->load(eviction->context, handle, &node);
    return node;
}

static void store_node(const kv_eviction *eviction, uint32_t handle, const kv_eviction_node *node)
{
    assert(node->frequency <= FREQUENCY_MAX);
    eviction->store(eviction->context, handle, node);
}

static queue *queue_of(kv_eviction *eviction, const kv_eviction_node *node)
{
    assert(node->queue == QUEUE_RECENT || node->queue == QUEUE_FREQUENT);
    return &eviction->queues[node->queue];
}

/* Make `newer` the newer neighbour of `handle`, or of the queue's end when that is 0. */
static void set_newer(kv_eviction *eviction, queue *line, uint32_t handle, uint32_t newer)
{
    if (handle == 0) {
        line->oldest = newer;
    } else {
        kv_eviction_node node = load_node(eviction, handle);

        node.next = newer;
        store_node(eviction, handle, &node);
    }
}

static void set_older(kv_eviction *eviction, queue *line, uint32_t handle, uint32_t older)
{
    if (handle == 0) {
        line->newest = older;
    } else {
        kv_eviction_node node = load_node(eviction, handle);

        node.previous = older;
        store_node(eviction, handle, &node);
    }
}

/* Take an entry out. Its own node is the caller's to store. */
static void unlink_node(kv_eviction *eviction, uint32_t handle, kv_eviction_node *node)
{
    queue *line = queue_of(eviction, node);

    assert(line->count > 0);
    set_older(eviction, line, node->next, node->previous);
    set_newer(eviction, line, node->previous, node->next);
    line->count--;
    if (line->anchor == handle)
        line->anchor = 0;
    node->next = 0;
    node->previous = 0;
    node->queue = QUEUE_NONE;
}

/* Put an entry that is on no queue behind `newer` (0: make it the newest). */
static void link_node(kv_eviction *eviction, uint32_t handle, kv_eviction_node *node, int to,
                      uint32_t newer)
{
    queue *line = &eviction->queues[to];

    assert(node->queue == QUEUE_NONE);
    node->queue = (uint8_t)to;
    node->next = newer;
    node->previous = newer ? load_node(eviction, newer).previous : line->newest;
    set_older(eviction, line, newer, handle);
    set_newer(eviction, line, node->previous, handle);
    line->count++;
    store_node(eviction, handle, node);
}

/* Put a used entry behind the one placed last when that has a lower rank: then it is its prefix
 * or, when it comes from another batch, about as recent. Any other, rank 0 always, becomes the
 * newest. */
static void place(kv_eviction *eviction, uint32_t handle, kv_eviction_node *node, int to,
                  uint32_t rank)
{
    queue *line = &eviction->queues[to];
    uint32_t newer = rank > line->anchor_rank ? line->anchor : 0;

    link_node(eviction, handle, node, to, newer);
    line->anchor = handle;
    line->anchor_rank = rank;
}

/* The oldest becomes the newest. */
static void rotate(kv_eviction *eviction, uint32_t handle, kv_eviction_node *node)
{
    int queue_index = node->queue;

    unlink_node(eviction, handle, node);
    link_node(eviction, handle, node, queue_index, 0);
}

/* How far a returning ghost moves the target, in 1 / SHARE_ONE. */
static uint64_t share_step(const kv_eviction *eviction, kv_eviction_origin origin)
{
    /* The one that came back is no longer counted: hence the ones. */
    uint64_t count = kv_eviction_count(eviction) + 1;
    uint64_t origin_ghosts = kv_eviction_ghosts_count(&eviction->ghosts, origin) + 1;
    uint64_t ghosts = kv_eviction_ghosts_count(&eviction->ghosts, KV_EVICTION_ORIGIN_RECENT) +
                      kv_eviction_ghosts_count(&eviction->ghosts, KV_EVICTION_ORIGIN_FREQUENT) + 1;
    uint64_t step = (count << 16) / STEP_DIVISOR;

    step = step < STEP_BASE_MIN ? STEP_BASE_MIN : step > STEP_BASE_MAX ? STEP_BASE_MAX : step;
    step = step * ghosts / (2 * origin_ghosts);
    step = step > STEP_MAX ? STEP_MAX : step;
    return (step << 16) / count;
}

static void adapt(kv_eviction *eviction, kv_eviction_origin origin)
{
    uint64_t step = share_step(eviction, origin);
    uint64_t share = eviction->recent_share;

    if (origin == KV_EVICTION_ORIGIN_RECENT)
        share = step < SHARE_ONE - share ? share + step : SHARE_ONE;
    else
        share = step < share ? share - step : 0;
    assert(share <= SHARE_ONE);
    eviction->recent_share = share;
}

int kv_eviction_open(uint64_t expected_count, kv_eviction_load *load, kv_eviction_store *store,
                     void *context, kv_eviction **eviction)
{
    kv_eviction *opened = calloc(1, sizeof(*opened));

    if (!opened)
        return -ENOMEM;
    opened->load = load;
    opened->store = store;
    opened->context = context;
    opened->recent_share = SHARE_INITIAL;
    if (kv_eviction_ghosts_open(&opened->ghosts, expected_count) < 0) {
        free(opened);
        return -ENOMEM;
    }
    *eviction = opened;
    return 0;
}

void kv_eviction_close(kv_eviction *eviction)
{
    kv_eviction_ghosts_close(&eviction->ghosts);
    free(eviction);
}

void kv_eviction_resize(kv_eviction *eviction, uint64_t expected_count)
{
    uint64_t set_count = kv_eviction_ghosts_set_count(expected_count);
    kv_eviction_ghosts ghosts;

    /* Fingerprints cannot move to a table of another size: small changes are not worth the loss. */
    if (set_count <= eviction->ghosts.set_count && set_count >= eviction->ghosts.set_count / 2)
        return;
    if (kv_eviction_ghosts_open(&ghosts, expected_count) < 0)
        return;
    kv_eviction_ghosts_close(&eviction->ghosts);
    eviction->ghosts = ghosts;
}

void kv_eviction_insert(kv_eviction *eviction, uint32_t handle, uint64_t hash, uint32_t rank)
{
    kv_eviction_origin origin = kv_eviction_ghosts_take(&eviction->ghosts, hash);
    kv_eviction_node node = load_node(eviction, handle);

    assert(node.queue == QUEUE_NONE);
    node.frequency = 0;
    if (origin == KV_EVICTION_ORIGIN_NONE) {
        place(eviction, handle, &node, QUEUE_RECENT, rank);
    } else {
        adapt(eviction, origin);
        place(eviction, handle, &node, QUEUE_FREQUENT, rank);
    }
}

void kv_eviction_touch(kv_eviction *eviction, uint32_t handle, uint32_t rank)
{
    kv_eviction_node node = load_node(eviction, handle);

    if (node.queue == QUEUE_FREQUENT && node.frequency < FREQUENCY_MAX)
        node.frequency++;
    unlink_node(eviction, handle, &node);
    place(eviction, handle, &node, QUEUE_FREQUENT, rank);
}

void kv_eviction_remove(kv_eviction *eviction, uint32_t handle)
{
    kv_eviction_node node = load_node(eviction, handle);

    unlink_node(eviction, handle, &node);
    store_node(eviction, handle, &node);
}

void kv_eviction_rename(kv_eviction *eviction, uint32_t from, uint32_t to)
{
    kv_eviction_node node = load_node(eviction, from);
    queue *line = queue_of(eviction, &node);

    assert(from != to);
    assert(load_node(eviction, to).queue == QUEUE_NONE);
    set_older(eviction, line, node.next, to);
    set_newer(eviction, line, node.previous, to);
    if (line->anchor == from)
        line->anchor = to;
    store_node(eviction, to, &node);
    node = (kv_eviction_node){0};
    store_node(eviction, from, &node);
}

/* The oldest entry of a queue that may go, taken out; 0 when a full round found none. All are
 * spared within the first round, after which it starts anew: so there are at most two visits an
 * entry. */
static uint32_t pick_from(kv_eviction *eviction, int from, kv_eviction_may_go *may_go)
{
    uint64_t refusals_left = eviction->queues[from].count;

    while (refusals_left > 0) {
        uint32_t handle = eviction->queues[from].oldest;
        kv_eviction_node node = load_node(eviction, handle);
        uint64_t hash = 0;

        assert(node.queue == from);
        if (node.frequency == FREQUENCY_MAX) {
            node.frequency = 0;
            rotate(eviction, handle, &node);
            refusals_left = eviction->queues[from].count;
        } else if (!may_go(eviction->context, handle, &hash)) {
            rotate(eviction, handle, &node);
            refusals_left--;
        } else {
            unlink_node(eviction, handle, &node);
            store_node(eviction, handle, &node);
            kv_eviction_ghosts_add(&eviction->ghosts, hash,
                                   from == QUEUE_RECENT ? KV_EVICTION_ORIGIN_RECENT
                                                        : KV_EVICTION_ORIGIN_FREQUENT);
            return handle;
        }
    }
    return 0;
}

uint32_t kv_eviction_pick(kv_eviction *eviction, kv_eviction_may_go *may_go)
{
    uint64_t recent_count = eviction->queues[QUEUE_RECENT].count;
    /* The count fits 32 bits as handles do: the product does not overflow. */
    uint64_t target = kv_eviction_count(eviction) * eviction->recent_share >> 32;
    int first = recent_count > target ? QUEUE_RECENT : QUEUE_FREQUENT;
    uint32_t handle = pick_from(eviction, first, may_go);

    return handle ? handle : pick_from(eviction, QUEUE_RECENT + QUEUE_FREQUENT - first, may_go);
}

uint64_t kv_eviction_count(const kv_eviction *eviction)
{
    return eviction->queues[QUEUE_RECENT].count + eviction->queues[QUEUE_FREQUENT].count;
}

uint64_t kv_eviction_memory_size(const kv_eviction *eviction)
{
    return sizeof(*eviction) + eviction->ghosts.set_count * sizeof(*eviction->ghosts.sets);
}
