/* The lifecycle of updates at one target of a chain; replica.h draws it.
 *
 *   queued ──(no blocker left)──► ready ──turn──► running: deciding ──decided──► under way ──► effects
 *                                                                                (END)
 *
 * While an update is under way, two things happen side by side, each at most once at a time:
 *
 *   here          (careful: waits) ──APPLY──► applying ──applied──► applied
 *   below   FORWARD ──► waits ──acknowledged──► acknowledged; again from the left after each change of
 *                                               the chain; without a successor: acknowledged
 *
 * Invariants, which kv_replica_invariants asserts:
 *  1. An update that is queued has blockers; one that is running has none, and holds all its keys.
 *  2. Whatever is under way is applying, or waits for its successor: one that is both applied and
 *     acknowledged has ended.
 *  3. What waits for a successor has one, and names its chain version and attempt, or is lost.
 *  4. An update is careful only while nothing of it is applied here.
 *  5. SYNC runs only beside a successor that syncs; a target without a part in the chain runs nothing
 *     but what is deciding or lost.
 *  6. Counts are those of the lists, and `running` is in the order of turns. */

#include "engine/engine.h"
#include "protocol/replica_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define SEQUENCE_MAX ((1ull << KV_VERSION_SEQUENCE_BITS) - 1)

int kv_replica_open(uint32_t place_count, kv_replica **out)
{
    kv_replica *replica;

    if (place_count == 0 || place_count > KV_REPLICA_PLACES_MAX ||
        (place_count & (place_count - 1)) != 0)
        return -EINVAL;
    replica = calloc(1, sizeof(*replica) + place_count * sizeof(replica->places[0]));
    if (!replica)
        return -ENOMEM;
    replica->place_mask = place_count - 1;
    kv_list_init(&replica->queued);
    kv_list_init(&replica->ready);
    kv_list_init(&replica->running);
    kv_list_init(&replica->effects);
    *out = replica;
    return 0;
}

void kv_replica_close(kv_replica *replica)
{
    assert(kv_replica_count(replica) == 0);
    assert(kv_list_empty(&replica->effects));
    free(replica);
}

const kv_replica_view *kv_replica_view_of(const kv_replica *replica)
{
    return &replica->view;
}

static void want(kv_replica *replica, kv_update *update, uint32_t effects)
{
    if (update->effects == 0)
        kv_list_append(&replica->effects, &update->effect_link);
    update->effects |= effects;
}

void kv_replica_unwant(kv_update *update, uint32_t effects)
{
    if ((update->effects & effects) == 0)
        return;
    update->effects &= ~effects;
    if (update->effects == 0)
        kv_list_remove(&update->effect_link);
}

void kv_replica_end(kv_replica *replica, kv_update *update, kv_status status)
{
    assert(update->state == KV_UPDATE_QUEUED || update->state == KV_UPDATE_RUNNING);
    assert((update->effects & KV_EFFECT_APPLY) == 0);
    kv_replica_unwant(update, KV_EFFECT_FORWARD | KV_EFFECT_DECIDE);
    kv_replica_keys_unlink(replica, update);
    kv_list_remove(&update->link);
    if (update->state == KV_UPDATE_QUEUED)
        replica->queued_count--;
    else
        replica->running_count--;
    update->state = KV_UPDATE_ENDED;
    update->status = status;
    want(replica, update, KV_EFFECT_END);
}

void kv_replica_give_up(kv_replica *replica, kv_update *update)
{
    assert(!update->applying && !update->deciding);
    if (update->lost)
        replica->lost_count--;
    update->lost = false;
    replica->given_up++;
    kv_replica_end(replica, update, KV_OUTCOME_UNKNOWN);
}

bool kv_replica_fits(const kv_replica *replica, const kv_update *update)
{
    const kv_replica_view *view = &replica->view;

    switch (update->source) {
    case KV_UPDATE_CLIENT:
        return view->serves && view->head;
    case KV_UPDATE_PEER:
        return kv_replica_view_takes_part(view) && !view->head &&
               update->chain_version == view->chain_version;
    case KV_UPDATE_MOVE:
        return view->serves && view->head && update->chain_version == view->chain_version;
    default:
        return view->serves && kv_replica_view_feeds(view);
    }
}

void kv_replica_turns_take(kv_replica *replica)
{
    kv_list *first;

    while ((first = kv_list_pop(&replica->ready))) {
        kv_update *update = KV_CONTAINER(first, kv_update, link);

        assert(update->state == KV_UPDATE_QUEUED);
        assert(update->blockers == 0);
        if (!kv_replica_fits(replica, update)) {
            kv_replica_end(replica, update, KV_WRONG_TARGET);
            continue;
        }
        replica->queued_count--;
        replica->running_count++;
        update->state = KV_UPDATE_RUNNING;
        update->deciding = true;
        update->turn = ++replica->turns;
        kv_list_append(&replica->running, &update->link);
        want(replica, update, KV_EFFECT_DECIDE);
    }
}

kv_status kv_replica_admits(const kv_replica *replica, kv_update_source source,
                            uint64_t chain_version)
{
    const kv_replica_view *view = &replica->view;
    kv_update named = {.source = source, .chain_version = chain_version};

    if (source == KV_UPDATE_CLIENT && chain_version != 0 && chain_version != view->chain_version)
        return KV_WRONG_TARGET;
    if (!kv_replica_fits(replica, &named))
        return KV_WRONG_TARGET;
    return view->syncs && replica->lost_count > 0 ? KV_BUSY : KV_OK;
}

/* An older attempt than one that was heard of may have been overtaken by it, and by what came
 * after. */
static bool attempt_hear(kv_replica *replica, const kv_update *update)
{
    if (update->source != KV_UPDATE_PEER && update->source != KV_UPDATE_MOVE)
        return true;
    if (update->attempt < replica->attempt_heard)
        return false;
    replica->attempt_heard = update->attempt;
    return true;
}

void kv_replica_came(kv_replica *replica, kv_update *update)
{
    kv_status status = kv_replica_admits(replica, update->source, update->chain_version);

    assert(update->count > 0);
    assert(update->state == KV_UPDATE_NEW || update->state == KV_UPDATE_ENDED);
    update->status = KV_OK;
    update->effects = 0;
    update->deciding = update->applying = update->applied = update->acknowledged = false;
    update->forwarded = update->lost = false;
    kv_list_init(&update->effect_link);
    if (status == KV_OK && !attempt_hear(replica, update))
        status = KV_WRONG_TARGET;
    if (status != KV_OK) {
        update->state = KV_UPDATE_ENDED;
        update->status = status;
        want(replica, update, KV_EFFECT_END);
        return;
    }
    update->state = KV_UPDATE_QUEUED;
    replica->queued_count++;
    kv_replica_keys_link(replica, update);
    kv_list_append(update->blockers > 0 ? &replica->queued : &replica->ready, &update->link);
    kv_replica_turns_take(replica);
}

/* Versions of a key grow with its turns, because one update of it runs at a time. */
static bool versions_give(kv_replica *replica, kv_update *update)
{
    if (update->source != KV_UPDATE_CLIENT)
        return true;
    if (replica->sequence > SEQUENCE_MAX - update->count)
        return false;
    update->version = kv_version(replica->view.chain_version, replica->sequence + 1);
    replica->sequence += update->count;
    return true;
}

static bool anything_left(const kv_update *update)
{
    for (uint32_t i = 0; i < update->count; i++)
        if (update->statuses[i] == KV_OK)
            return true;
    return false;
}

void kv_replica_forward(kv_replica *replica, kv_update *update)
{
    update->acknowledged = !replica->view.has_successor;
    if (update->acknowledged) {
        kv_replica_unwant(update, KV_EFFECT_FORWARD);
        return;
    }
    update->forwarded = true;
    update->successor = replica->view.successor;
    update->forward_version = replica->view.chain_version;
    update->forward_attempt = replica->attempt;
    want(replica, update, KV_EFFECT_FORWARD);
}

void kv_replica_apply(kv_replica *replica, kv_update *update)
{
    assert(!update->applying && !update->applied);
    update->careful = false;
    update->applying = true;
    want(replica, update, KV_EFFECT_APPLY);
}

void kv_replica_go_on(kv_replica *replica, kv_update *update)
{
    if (update->applying)
        return;
    if (update->applied) {
        if (update->acknowledged)
            kv_replica_end(replica, update, KV_OK);
        return;
    }
    if (update->careful && !update->acknowledged)
        return;
    if (!anything_left(update)) {
        kv_replica_end(replica, update, KV_OK);
        return;
    }
    kv_replica_apply(replica, update);
}

void kv_replica_decided(kv_replica *replica, kv_update *update, kv_status status)
{
    assert(update->state == KV_UPDATE_RUNNING);
    assert(update->deciding && (update->effects & KV_EFFECT_DECIDE) == 0);

    update->deciding = false;
    if (status == KV_OK && !kv_replica_fits(replica, update))
        status = KV_WRONG_TARGET;
    if (status == KV_OK && anything_left(update)) {
        if (versions_give(replica, update)) {
            update->applied = update->source == KV_UPDATE_SYNC;
            kv_replica_forward(replica, update);
            kv_replica_go_on(replica, update);
        } else {
            kv_replica_end(replica, update, KV_UNAVAILABLE);
        }
    } else {
        kv_replica_end(replica, update, status);
    }
    kv_replica_turns_take(replica);
}

void kv_replica_applied(kv_replica *replica, kv_update *update)
{
    assert(update->state == KV_UPDATE_RUNNING);
    assert(update->applying && (update->effects & KV_EFFECT_APPLY) == 0);

    update->applying = false;
    update->applied = true;
    if (update->lost)
        kv_replica_give_up(replica, update);
    else
        kv_replica_go_on(replica, update);
    kv_replica_turns_take(replica);
}

bool kv_replica_forwards(const kv_update *update, uint64_t forward_version, uint32_t attempt)
{
    return update->state == KV_UPDATE_RUNNING && !update->deciding && !update->lost &&
           !update->acknowledged && update->forward_version == forward_version &&
           update->forward_attempt == attempt;
}

/* Whether the successor's word can be taken: a refusal only where this target can follow it. */
static bool word_legal(const kv_update *update, const uint8_t *statuses)
{
    bool may_refuse = update->careful || update->source == KV_UPDATE_SYNC;

    for (uint32_t i = 0; !may_refuse && i < update->count; i++)
        if (update->statuses[i] == KV_OK && statuses[i] != KV_OK)
            return false;
    return true;
}

bool kv_replica_acknowledged(kv_replica *replica, kv_update *update, uint64_t forward_version,
                             uint32_t attempt, const uint8_t *statuses)
{
    if (!kv_replica_forwards(update, forward_version, attempt))
        return true;
    if (statuses && !word_legal(update, statuses))
        return false;
    for (uint32_t i = 0; statuses && i < update->count; i++)
        if (update->statuses[i] == KV_OK)
            update->statuses[i] = statuses[i];
    kv_replica_unwant(update, KV_EFFECT_FORWARD);
    update->acknowledged = true;
    kv_replica_go_on(replica, update);
    kv_replica_turns_take(replica);
    return true;
}

bool kv_replica_withdraw(kv_replica *replica, kv_update *update, kv_status status)
{
    assert(status != KV_OK);
    if (update->state != KV_UPDATE_QUEUED)
        return false;
    kv_replica_end(replica, update, status);
    kv_replica_turns_take(replica);
    return true;
}

kv_update *kv_replica_next(kv_replica *replica, uint32_t *effects)
{
    kv_list *first = kv_list_pop(&replica->effects);
    kv_update *update;

    if (!first)
        return NULL;
    update = KV_CONTAINER(first, kv_update, effect_link);
    assert(update->effects != 0);
    *effects = update->effects;
    update->effects = 0;
    return update;
}

bool kv_replica_is_dirty(const kv_replica *replica, const uint8_t *key, uint32_t key_size,
                         uint64_t hash)
{
    const kv_update *holder;

    if (replica->running_count == 0)
        return false;
    holder = kv_replica_holder(replica, key, key_size, hash);
    return holder && holder->state == KV_UPDATE_RUNNING && holder->source != KV_UPDATE_SYNC &&
           (replica->view.has_successor || holder->forwarded);
}

bool kv_replica_is_held(const kv_replica *replica, const uint8_t *key, uint32_t key_size,
                        uint64_t hash)
{
    return kv_replica_holder(replica, key, key_size, hash) != NULL;
}

uint64_t kv_replica_given_up(const kv_replica *replica)
{
    return replica->given_up;
}

uint64_t kv_replica_turns(const kv_replica *replica)
{
    return replica->turns;
}

bool kv_replica_settled(const kv_replica *replica, uint64_t turns)
{
    return kv_list_empty(&replica->running) ||
           KV_CONTAINER(replica->running.next, const kv_update, link)->turn > turns;
}

uint32_t kv_replica_count(const kv_replica *replica)
{
    return replica->queued_count + replica->running_count;
}

/* Those that name no version (0) are not told apart from new ones. */
static bool any_older(const kv_list *list, uint64_t chain_version)
{
    for (const kv_list *at = list->next; at != list; at = at->next) {
        uint64_t named = KV_CONTAINER(at, const kv_update, link)->chain_version;

        if (named != 0 && named < chain_version)
            return true;
    }
    return false;
}

bool kv_replica_is_settled(const kv_replica *replica)
{
    uint64_t chain_version = replica->view.chain_version;

    return !any_older(&replica->queued, chain_version) &&
           !any_older(&replica->ready, chain_version) &&
           !any_older(&replica->running, chain_version);
}

static void running_invariants(const kv_replica *replica, const kv_update *update)
{
    const kv_replica_view *view = &replica->view;

    assert(update->state == KV_UPDATE_RUNNING);
    if (update->deciding) {
        assert((update->effects & ~KV_EFFECT_DECIDE) == 0);
        assert(!update->applying && !update->applied && !update->lost);
        return;
    }
    assert(!update->lost || (update->applying && !view->serves));
    assert(kv_replica_view_takes_part(view) || update->lost);
    assert(update->applying || !update->acknowledged);
    assert(!update->applying || (!update->applied && !update->careful));
    assert((update->effects & KV_EFFECT_APPLY) == 0 || update->applying);
    assert((update->effects & KV_EFFECT_FORWARD) == 0 || !update->acknowledged);
    if (update->lost)
        return;
    assert(update->acknowledged || view->has_successor);
    assert(update->acknowledged || kv_replica_forwards(update, view->chain_version,
                                                       replica->attempt));
    assert(update->source != KV_UPDATE_SYNC || kv_replica_view_feeds(view));
}

static uint32_t list_count(const kv_list *list)
{
    uint32_t count = 0;

    for (const kv_list *at = list->next; at != list; at = at->next)
        count++;
    return count;
}

void kv_replica_invariants(const kv_replica *replica)
{
    uint64_t turn = 0;
    uint32_t lost = 0;

    kv_replica_view_check(&replica->view);
    assert(kv_list_empty(&replica->ready));
    assert(list_count(&replica->queued) == replica->queued_count);
    assert(list_count(&replica->running) == replica->running_count);
    for (const kv_list *at = replica->running.next; at != &replica->running; at = at->next) {
        const kv_update *update = KV_CONTAINER(at, const kv_update, link);

        running_invariants(replica, update);
        assert(update->turn > turn && update->turn <= replica->turns);
        turn = update->turn;
        lost += update->lost;
    }
    assert(lost == replica->lost_count);
    for (const kv_list *at = replica->queued.next; at != &replica->queued; at = at->next)
        assert(kv_replica_fits(replica, KV_CONTAINER(at, const kv_update, link)));
    for (const kv_list *at = replica->effects.next; at != &replica->effects; at = at->next)
        assert(KV_CONTAINER(at, const kv_update, effect_link)->effects != 0);
    kv_replica_keys_invariants(replica);
}
