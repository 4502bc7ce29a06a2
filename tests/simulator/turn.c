/* The turn of an update: what of it is refused for what is there already; see
 * native/node/chain_decide.c. */

#include "simulator.h"

#include <errno.h>

static void decide_client(sim_world *world, sim_target *target, sim_job *job)
{
    uint64_t space = sim_storage_free(world, target);
    kv_item_stat stat;
    uint32_t size;

    for (uint32_t i = 0; i < job->update.count; i++) {
        bool there;

        if (job->statuses[i] != KV_OK || (job->operation == KV_OP_SET && !job->if_absent))
            continue;
        there = sim_storage_peek(target, job->items[i].key, &stat, &size);
        if (job->operation == KV_OP_SET)
            job->statuses[i] = there ? KV_EXISTS : KV_OK;
        else
            job->statuses[i] = there ? KV_OK : KV_NOT_FOUND;
    }
    if (kv_replica_view_of(target->replica)->has_successor && target->successor_free < space)
        space = target->successor_free;
    job->update.careful =
        job->operation == KV_OP_SET && job->retained && space < world->options.margin;
}

/* All of it came before, and is answered as it was then. False: an item is refused that may not
 * be. */
static bool decide_repeated(const sim_target *target, sim_job *job)
{
    job->repeated = true;
    for (uint32_t i = 0; i < job->update.count; i++) {
        bool here = sim_storage_has(target, job->items[i].key, job->versions[i]);

        if (job->statuses[i] != KV_OK)
            continue;
        if (!here && !job->refusable)
            return false;
        job->refusals[i] = here ? KV_OK : KV_NO_SPACE;
        job->statuses[i] = KV_EXISTS; /* not to be applied or forwarded */
        job->here[i] = true;
    }
    return true;
}

/* False: what the predecessor counts on cannot be done. */
static bool decide_peer(sim_world *world, const sim_target *target, sim_job *job)
{
    bool here = false, refused = false, refused_here = false;

    job->update.careful = job->refusable && job->retained;
    for (uint32_t i = 0; job->operation == KV_OP_SET && i < job->update.count; i++) {
        bool is_here;

        if (job->statuses[i] != KV_OK || (job->refusals[i] == KV_OK && !job->refusable))
            continue;
        is_here = sim_storage_has(target, job->items[i].key, job->versions[i]);
        here |= is_here;
        refused |= job->refusals[i] != KV_OK;
        refused_here |= job->refusals[i] != KV_OK && is_here;
    }
    job->update.careful &= !here;
    if (refused_here)
        return decide_repeated(target, job);
    world->tally.refusals += refused;
    for (uint32_t i = 0; refused && job->refusable && i < job->update.count; i++)
        if (job->statuses[i] == KV_OK)
            job->statuses[i] = job->refusals[i];
    return !refused || job->refusable;
}

void sim_job_decided(sim_world *world, sim_target *target, sim_job *job, kv_status status)
{
    (void)world;
    job->deciding = false;
    kv_replica_decided(target->replica, &job->update, status);
}

void sim_job_take_turn(sim_world *world, sim_target *target, sim_job *job)
{
    kv_status status = KV_OK;

    if (!sim_leased(world, target->node)) {
        status = KV_WRONG_TARGET;
    } else if (job->update.source == KV_UPDATE_SYNC) {
        sim_sync_look(world, target, job);
        return;
    } else if (job->update.source == KV_UPDATE_CLIENT) {
        decide_client(world, target, job);
    } else if (!decide_peer(world, target, job)) {
        sim_target_fail(world, target, ENOSPC, "it has no room for an update of its chain");
        status = KV_WRONG_TARGET;
    }
    sim_job_decided(world, target, job, status);
}
