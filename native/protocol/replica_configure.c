/* What a change of the chain, or a lost connection, does to the updates of a replica.
 *
 *   queued             fits the new view?  stays : KV_WRONG_TARGET
 *   deciding           judged when it is decided
 *   under way          serves: forwarded to the new successor, acknowledged without one
 *     SYNC             no successor that syncs: KV_WRONG_TARGET
 *     does not serve   lost: applied if it was not, then KV_OUTCOME_UNKNOWN
 *     lost             serves again by then: under way
 *
 * A target that syncs may have been out of the chain meanwhile without having heard of it, so each
 * change is a new start for it.
 * Guarantees that the sequence and both attempts start again only with a later chain version. */

#include "protocol/replica_state.h"

#include <assert.h>

/* What was under way at a target that does not serve: nobody can say any more what becomes of it.
 * It is applied all the same, because this target may be the one that starts alone after all of
 * them were lost. */
static void lose(kv_replica *replica, kv_update *update)
{
    if (update->lost)
        return;
    update->lost = true;
    update->acknowledged = false;
    replica->lost_count++;
    kv_replica_unwant(update, KV_EFFECT_FORWARD);
    if (update->applied)
        kv_replica_give_up(replica, update);
    else if (!update->applying)
        kv_replica_apply(replica, update);
}

/* Under way at a target that serves: on to whoever comes next now. A successor that is gone may
 * have applied a careful update and shown it to readers, so that the next one must not refuse
 * it. */
static void carry_on(kv_replica *replica, kv_update *update)
{
    const kv_replica_view *view = &replica->view;

    if (update->lost) {
        update->lost = false;
        replica->lost_count--;
    }
    if (update->careful && update->forwarded && update->source != KV_UPDATE_SYNC &&
        !(view->has_successor && view->successor == update->successor))
        kv_replica_apply(replica, update);
    kv_replica_forward(replica, update);
    if (update->acknowledged)
        kv_replica_go_on(replica, update);
}

/* Ends make others ready, which takes them off whichever list they are on: those are judged at
 * their turn. */
static void queued_sweep(kv_replica *replica)
{
    kv_list queued, *at;

    kv_list_init(&queued);
    while ((at = kv_list_pop(&replica->queued)))
        kv_list_append(&queued, at);
    while ((at = kv_list_pop(&queued))) {
        kv_update *update = KV_CONTAINER(at, kv_update, link);

        if (kv_replica_fits(replica, update))
            kv_list_append(&replica->queued, at);
        else
            kv_replica_end(replica, update, KV_WRONG_TARGET);
    }
}

static void running_sweep(kv_replica *replica)
{
    kv_list *next;

    for (kv_list *at = replica->running.next; at != &replica->running; at = next) {
        kv_update *update = KV_CONTAINER(at, kv_update, link);

        next = at->next;
        if (update->deciding)
            continue;
        if (update->source == KV_UPDATE_SYNC && !kv_replica_fits(replica, update))
            kv_replica_end(replica, update, KV_WRONG_TARGET);
        else if (replica->view.serves)
            carry_on(replica, update);
        else
            lose(replica, update);
    }
}

void kv_replica_view_check(const kv_replica_view *view)
{
    assert(!view->serves || !view->syncs);
    assert(!view->head || view->serves);
    assert(!view->has_successor || view->serves);
    assert(!view->successor_syncs || view->has_successor);
    assert(view->chain_version <= KV_CHAIN_VERSION_LIMIT);
    assert(view->chain_version > 0 || !kv_replica_view_takes_part(view));
}

static bool views_equal(const kv_replica_view *a, const kv_replica_view *b)
{
    return a->chain_version == b->chain_version && a->serves == b->serves &&
           a->syncs == b->syncs && a->head == b->head &&
           a->successor_syncs == b->successor_syncs && a->has_successor == b->has_successor &&
           (!a->has_successor || a->successor == b->successor);
}

bool kv_replica_configure(kv_replica *replica, const kv_replica_view *view)
{
    kv_replica_view_check(view);
    if (view->chain_version != 0 && view->chain_version < replica->chain_version)
        return false;
    if (views_equal(view, &replica->view))
        return true;
    replica->view = *view;
    if (view->chain_version > replica->chain_version) {
        replica->chain_version = view->chain_version;
        replica->sequence = 0;
        replica->attempt = 0;
        replica->attempt_heard = 0;
    } else {
        replica->attempt++;
    }
    queued_sweep(replica);
    running_sweep(replica);
    kv_replica_turns_take(replica);
    return true;
}

void kv_replica_severed(kv_replica *replica)
{
    replica->attempt++;
    for (kv_list *at = replica->running.next; at != &replica->running; at = at->next) {
        kv_update *update = KV_CONTAINER(at, kv_update, link);

        if (!update->deciding && !update->lost && !update->acknowledged)
            kv_replica_forward(replica, update);
    }
}
