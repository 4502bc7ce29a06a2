/* See evictor.h. It looks when it is told to, and by itself: often while something is lacking,
 * waits or is under way. */

#include "node/evictor.h"

#include "node/space_question.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull

struct kv_evictor {
    kv_chain *chain;
    kv_loop *loop;
    kv_timer timer;
    kv_mail mail;
    atomic_bool posted;
    uint32_t batch_count;      /* under way, with what they will free */
    uint64_t size_under_way;
    uint64_t count_under_way;
    uint64_t vain_ns;          /* nothing is chosen before: nothing may go */
    kv_space_question question;
    uint64_t answers;          /* of the successor, as of heard_ns */
    uint64_t heard_ns;
    uint64_t lacked_ns;        /* something was lacking then; 0: never */
    bool waits;                /* somebody did, the last time */
    uint64_t freed;            /* as of freed_ns */
    uint64_t freed_ns;
};

/* How the chain stands. */
typedef struct place {
    bool shared; /* the target has a part in a chain of several */
    bool evicts; /* it is its head */
    bool asks;   /* it has a successor */
    bool syncs;
    uint32_t update_count;
    uint64_t answers;
} place;

static place place_look(kv_chain *chain)
{
    const kv_replica_view *view;
    place found;

    pthread_mutex_lock(&chain->mutex);
    view = kv_replica_view_of(chain->replica);
    found = (place){.shared = !chain->stopped && (view->serves || view->syncs) &&
                              (!view->head || view->has_successor),
                    .evicts = view->serves && view->head,
                    .asks = view->has_successor,
                    .syncs = view->syncs,
                    .update_count = kv_replica_count(chain->replica),
                    .answers = chain->answer_count};
    chain->ticks = found.shared && found.asks && found.update_count > 0;
    pthread_mutex_unlock(&chain->mutex);
    return found;
}

/* ---- choosing ---- */

static void spare_all(kv_engine *engine, const kv_victims *victims)
{
    const uint8_t *at = victims->keys;

    for (uint64_t i = 0; i < victims->count; i++) {
        uint16_t size;

        memcpy(&size, at, sizeof(size));
        kv_engine_spare(engine, at + sizeof(size), size);
        at += sizeof(size) + size;
    }
}

/* False: not now. */
static bool evict_some(kv_evictor *evictor, uint64_t size, uint64_t count)
{
    kv_engine *engine = evictor->chain->target->engine;
    uint8_t keys[KV_NODE_EVICT_KEYS_SIZE];
    kv_victims victims = {.size = size, .count = count, .keys = keys, .keys_max = sizeof(keys),
                          .count_max = KV_NODE_EVICT_BATCH_COUNT};
    kv_evict_batch *batch = NULL;

    if (kv_clock_ns() < evictor->vain_ns)
        return false;
    kv_engine_victims(engine, &victims);
    if (victims.count > 0)
        batch = kv_evict_open(evictor, evictor->chain, evictor->loop, &victims);
    if (!batch)
        spare_all(engine, &victims);
    if (!batch || !kv_evict_begin(batch)) {
        evictor->vain_ns = kv_clock_ns() + KV_NODE_EVICT_VAIN_MS * NS_PER_MS;
        return false;
    }
    evictor->batch_count++;
    evictor->size_under_way += victims.size;
    evictor->count_under_way += victims.count;
    return true;
}

static uint64_t less(uint64_t wanted, uint64_t under_way)
{
    return wanted > under_way ? wanted - under_way : 0;
}

static void evict(kv_evictor *evictor, const kv_engine_shortage *shortage)
{
    while (evictor->batch_count < KV_NODE_EVICT_IN_FLIGHT) {
        uint64_t size = less(shortage->size, evictor->size_under_way);
        uint64_t count = less(shortage->count, evictor->count_under_way);

        if ((size == 0 && count == 0) || !evict_some(evictor, size, count))
            break;
    }
}

/* How long nobody need look. */
static uint64_t pause_of(kv_evictor *evictor, const place *now, const kv_engine_shortage *shortage,
                         uint64_t now_ns)
{
    bool lacks = shortage->size > 0 || shortage->count > 0;

    if (lacks)
        evictor->lacked_ns = now_ns;
    lacks |= evictor->lacked_ns > 0 &&
             now_ns - evictor->lacked_ns < KV_NODE_EVICT_LACK_MS * NS_PER_MS;
    return (lacks || shortage->waits || now->update_count > 0 ? KV_NODE_EVICT_LOOK_MS
                                                              : KV_NODE_EVICT_IDLE_MS) * NS_PER_MS;
}

/* Rule 3. */
static void ask(kv_evictor *evictor, const place *now, uint64_t pause_ns, uint64_t now_ns)
{
    if (!now->asks) {
        kv_space_question_drop(&evictor->question);
        return;
    }
    if (now->answers != evictor->answers)
        evictor->heard_ns = now_ns;
    evictor->answers = now->answers;
    if (now_ns - evictor->heard_ns >= pause_ns)
        kv_space_question_ask(&evictor->question);
}

/* Rule 4. */
static void end_waits(kv_evictor *evictor, const place *now, const kv_engine_shortage *shortage,
                      uint64_t now_ns)
{
    kv_engine *engine = evictor->chain->target->engine;
    uint64_t waited_ms;

    if (!shortage->waits || !evictor->waits || shortage->freed != evictor->freed)
        evictor->freed_ns = now_ns;
    evictor->waits = shortage->waits;
    evictor->freed = shortage->freed;
    waited_ms = (now_ns - evictor->freed_ns) / NS_PER_MS;
    if (waited_ms >= KV_NODE_SPACE_WAIT_MS)
        kv_engine_end_waits(engine, false);
    else if (now->syncs && waited_ms >= KV_NODE_COPY_WAIT_MS)
        kv_engine_end_waits(engine, true);
}

void kv_evictor_look(kv_evictor *evictor)
{
    place now = place_look(evictor->chain);
    uint64_t now_ns = kv_clock_ns();
    kv_engine_shortage shortage;
    uint64_t pause_ns;

    if (!now.shared || evictor->loop->stopping) {
        kv_space_question_drop(&evictor->question);
        if (kv_timer_is_set(&evictor->timer))
            kv_timer_stop(evictor->loop->reactor, &evictor->timer);
        return;
    }
    kv_chain_shortage(evictor->chain, &shortage);
    if (now.evicts)
        evict(evictor, &shortage);
    pause_ns = pause_of(evictor, &now, &shortage, now_ns);
    ask(evictor, &now, pause_ns, now_ns);
    end_waits(evictor, &now, &shortage, now_ns);
    if (now.asks || shortage.waits)
        kv_timer_set(evictor->loop->reactor, &evictor->timer, now_ns + pause_ns);
}

void kv_evictor_batch_ended(kv_evictor *evictor, uint64_t size, uint64_t count)
{
    assert(evictor->batch_count > 0);
    assert(evictor->size_under_way >= size && evictor->count_under_way >= count);
    evictor->batch_count--;
    evictor->size_under_way -= size;
    evictor->count_under_way -= count;
    kv_evictor_look(evictor);
}

/* ---- its life ---- */

static void timer_expires(kv_timer *timer)
{
    kv_evictor_look(KV_CONTAINER(timer, kv_evictor, timer));
}

static void deliver(kv_mail *mail)
{
    kv_evictor *evictor = KV_CONTAINER(mail, kv_evictor, mail);

    /* Release, acquire: what is said from here on is posted anew. */
    atomic_store_explicit(&evictor->posted, false, memory_order_seq_cst);
    kv_evictor_look(evictor);
}

void kv_evictor_post(kv_evictor *evictor)
{
    if (!atomic_exchange_explicit(&evictor->posted, true, memory_order_seq_cst))
        kv_reactor_post(evictor->loop->reactor, &evictor->mail);
}

static void wanted(void *context)
{
    kv_evictor_post(context);
}

int kv_evictor_open(kv_chain *chain, kv_evictor **result)
{
    kv_evictor *evictor = calloc(1, sizeof(*evictor));

    if (!evictor)
        return -ENOMEM;
    evictor->chain = chain;
    evictor->loop = kv_chain_loop(chain);
    evictor->timer.expire = timer_expires;
    evictor->mail.deliver = deliver;
    kv_space_question_init(&evictor->question, chain, evictor->loop);
    kv_engine_set_wanted(chain->target->engine, wanted, evictor);
    *result = evictor;
    return 0;
}

void kv_evictor_close(kv_evictor *evictor)
{
    assert(evictor->batch_count == 0);
    assert(evictor->question.message.state == KV_PEER_IDLE);
    free(evictor);
}
