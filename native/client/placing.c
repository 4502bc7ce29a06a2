/* Where the parts of a call go: to a member of their chain, again elsewhere, or to rest until there
 * is somebody for them.
 *
 * Updates go to the head, reads to any member, and what is dirty there to the tail. A part without
 * a channel is cut anew whenever it is tried again, by the newest routing info; an update that may
 * have happened stays as it is, with its channel, and goes to the head of the same chain. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static const kv_cut_limits limits_default_get = {
    .count = KV_MESSAGE_COUNT_MAX,
    .columns_size = KV_MESSAGE_COLUMNS_SIZE_MAX,
    .values_size = KV_CLIENT_GET_PART_SIZE,
};

static const kv_cut_limits limits_default_set = {
    .count = KV_MESSAGE_COUNT_MAX,
    .columns_size = KV_MESSAGE_COLUMNS_SIZE_MAX,
    .values_size = KV_CLIENT_SET_PART_SIZE,
};

/* What the parts of one cutting have in common. */
typedef struct kv_placing {
    kv_call *call;
    uint32_t attempts;
    uint32_t moves;
    uint32_t excluded; /* an endpoint that shall not be asked, or KV_LOAD_NOBODY */
    bool tail;         /* only the tail knows */
} kv_placing;

/* ---- rest ---- */

static void part_resume(kv_part *part)
{
    if (part->operation == 0)
        kv_connection_add(part->connection, part);
    else if (part->sequence != 0)
        kv_call_repeat(part);
    else
        kv_call_retry(part);
}

static void pause_ends(kv_timer *timer)
{
    kv_part *part = KV_CONTAINER(timer, kv_part, pause);
    kv_lane *lane = part->lane;

    kv_list_remove(&part->link);
    part_resume(part);
    kv_lane_work(lane);
}

void kv_call_pause(kv_part *part)
{
    uint64_t pause_ns = kv_backoff_ns(&part->lane->random, part->attempts++,
                                      KV_CLIENT_PAUSE_FIRST_MS, KV_CLIENT_PAUSE_MAX_MS);

    assert(kv_list_empty(&part->link));
    part->state = KV_PART_PAUSED;
    part->pause.expire = pause_ends;
    kv_part_charge(part, NULL, 0);
    kv_timer_set(part->lane->reactor, &part->pause, kv_clock_ns() + pause_ns);
}

void kv_call_hold(kv_part *part)
{
    kv_lane *lane = part->lane;

    lane->restless = true;
    kv_call_pause(part);
    kv_list_append(&lane->held, &part->link);
}

/* ---- aim ---- */

/* Send it to this member. -ENOMEM: there is no connection. */
static int part_place(kv_part *part, kv_member member)
{
    kv_connection *connection = kv_lane_connection(part->lane, member.endpoint);

    if (!connection)
        return -ENOMEM;
    part->target = member.target;
    part->connection = connection;
    kv_connection_add(connection, part);
    return 0;
}

/* Choose who gets it, by the routing info of its call. */
static int part_aim(kv_part *part, const kv_placing *placing)
{
    const kv_route_table *routing = part->call->routing;
    const kv_route_chain *chain = &routing->chains[part->chain];
    const kv_member *members = kv_route_table_members(routing, chain);
    uint32_t chosen = 0;

    part->generation = routing->generation;
    part->chain_version = chain->version;
    if (chain->member_count == 0) {
        kv_trouble_refused(&part->lane->client->trouble);
        kv_call_hold(part);
        return 0;
    }
    if (part->idempotent && placing->tail)
        chosen = chain->member_count - 1;
    else if (part->idempotent)
        chosen = kv_load_choose(part->lane->client->loads, members, chain->member_count,
                                placing->excluded, kv_clock_ns(), &part->lane->random);
    part->tail = chosen + 1 == chain->member_count;
    return part_place(part, members[chosen]);
}

/* ---- cut ---- */

static void part_join(kv_part *part, kv_call *call, uint32_t attempts)
{
    part->call = call;
    part->lane = call->lane;
    part->attempts = attempts;
    kv_list_append(&call->parts, &part->call_link);
    kv_lane_count(&call->lane->counters.parts, 1);
}

static void part_unjoin(kv_part *part)
{
    kv_list_remove(&part->call_link);
    kv_part_close(part);
}

static int part_emit(void *context, const kv_cut *cut)
{
    const kv_placing *placing = context;
    kv_part *part = kv_part_open(&placing->call->batch, cut);
    int error;

    if (!part)
        return -ENOMEM;
    part_join(part, placing->call, placing->attempts);
    part->moves = placing->moves;
    error = part_aim(part, placing);
    if (error < 0)
        part_unjoin(part);
    return error;
}

static kv_cut_limits limits_of(const kv_call *call)
{
    kv_cut_limits limits = call->batch.request->operation == KV_OP_SET ? limits_default_set
                                                                        : limits_default_get;

    if (call->batch.request->operation == KV_OP_GET && call->routing->spreads)
        limits.values_size = KV_CLIENT_GET_PART_SIZE_SPREAD;
    return limits;
}

/* The limits that its node granted, where they are the tighter ones. */
static kv_cut_limits limits_again(const kv_part *part)
{
    kv_cut_limits limits = limits_of(part->call);
    const kv_hello_grant *grant = part->connection ? &part->connection->grant : NULL;

    if (grant && part->connection->welcomed) {
        if (grant->count_max < limits.count)
            limits.count = grant->count_max;
        if (grant->columns_size_max < limits.columns_size)
            limits.columns_size = grant->columns_size_max;
        if (part->operation == KV_OP_SET && grant->values_size_max < limits.values_size)
            limits.values_size = grant->values_size_max;
    }
    return limits;
}

static int batch_cut(const kv_placing *placing, const kv_cut_limits *limits,
                     const uint32_t *indices, uint32_t count)
{
    kv_call *call = placing->call;
    const kv_client *client = call->client;
    kv_cut_names names = {client->names.tenant, client->names.name_space};

    return kv_batch_cut(&call->batch, call->routing, &names, limits, indices, count, part_emit,
                        (void *)(uintptr_t)placing);
}

/* ---- control requests ---- */

/* -ENOMEM. */
static int control_add(kv_call *call, kv_part *part, kv_member member)
{
    int error;

    if (!part)
        return -ENOMEM;
    part_join(part, call, 0);
    part->generation = call->routing ? call->routing->generation : 0;
    error = part_place(part, member);
    if (error < 0)
        part_unjoin(part);
    return error;
}

/* A flush of every member that is not among `known`. -EAGAIN: what a chain holds cannot be flushed,
 * since nobody serves it. */
static int flush_add(kv_call *call, const kv_member *known, uint32_t known_count)
{
    const kv_route_table *routing = call->routing;
    int error = 0;

    if (kv_route_table_lacks(routing))
        return -EAGAIN;
    for (uint32_t i = 0; i < routing->member_count && error == 0; i++) {
        kv_member member = routing->members[i];

        if (!kv_member_is_among(known, known_count, member))
            error = control_add(
                call, kv_part_open_control(KV_CONTROL_FLUSH, member.target, NULL, 0), member);
    }
    return error;
}

/* The same for those that `before` does not have. */
static int flush_add_new(kv_call *call, const kv_route_table *before)
{
    kv_member *known;
    int error = kv_route_table_sort(before, &known);

    if (error < 0)
        return error;
    error = flush_add(call, known, before->member_count);
    free(known);
    return error;
}

static int control_place(kv_call *call)
{
    const kv_control *control = call->control;

    return control_add(
        call,
        kv_part_open_control(control->kind, control->target, control->body, control->body_size),
        (kv_member){control->endpoint, control->target});
}

int kv_call_place(kv_call *call)
{
    kv_placing placing = {.call = call, .excluded = KV_LOAD_NOBODY};
    kv_cut_limits limits;

    if (call->kind == KV_CALL_FLUSH)
        return flush_add(call, NULL, 0);
    if (call->kind == KV_CALL_CONTROL)
        return control_place(call);
    limits = limits_of(call);
    return batch_cut(&placing, &limits, NULL, call->batch.request->count);
}

/* ---- again ---- */

/* Go by the newest routing info. What it replaces is the caller's to release; NULL: it is the
 * newest. */
static kv_route_table *routing_refresh(kv_call *call)
{
    kv_client *client = call->client;
    kv_route_table *before = NULL;

    pthread_mutex_lock(&client->mutex);
    if (call->routing != client->routing) {
        before = call->routing;
        call->routing = kv_route_table_hold(client->routing);
    }
    pthread_mutex_unlock(&client->mutex);
    return before;
}

/* A flush goes to all that serve now: not to who left, but to who came. */
static void flush_retry(kv_part *part)
{
    kv_call *call = part->call;
    kv_route_table *before = routing_refresh(call);
    kv_member member = {part->connection->endpoint, part->target};
    int error = before ? flush_add_new(call, before) : 0;

    if (before)
        kv_route_table_release(before);
    if (error == 0 && !kv_route_table_has(call->routing, member)) {
        kv_call_drop_part(part);
        return;
    }
    part->generation = call->routing->generation;
    kv_connection_add(part->connection, part);
    if (error < 0)
        kv_call_give_up(call, KV_UNAVAILABLE);
}

/* Cut what is open of it, by the newest routing info. -ENOMEM. */
static int part_recut(const kv_part *part, const kv_placing *placing)
{
    kv_route_table *before = routing_refresh(part->call);
    kv_cut_limits limits;

    if (before)
        kv_route_table_release(before);
    limits = limits_again(part);
    return batch_cut(placing, &limits, part->indices, part->count);
}

void kv_call_retry(kv_part *part)
{
    kv_call *call = part->call;
    kv_placing placing = {.call = call,
                          .attempts = part->attempts,
                          .moves = part->moves,
                          .excluded = part->elsewhere ? part->connection->endpoint : KV_LOAD_NOBODY,
                          .tail = part->dirty};
    int error;

    assert(!call->given_up && part->sequence == 0);
    kv_lane_count(&part->lane->counters.retries, 1);
    if (part->operation == 0) {
        part->touched = false;
        if (call->kind == KV_CALL_FLUSH)
            flush_retry(part);
        else
            kv_connection_add(part->connection, part);
        return;
    }
    error = part_recut(part, &placing);
    if (error < 0) {
        part_unjoin(part);
        kv_call_give_up(call, KV_UNAVAILABLE);
        return;
    }
    kv_call_drop_part(part);
}

bool kv_call_has_choice(const kv_part *part)
{
    const kv_route_table *routing = part->call->routing;

    return part->operation != 0 && part->idempotent && part->chain_version != 0 &&
           part->chain < routing->chain_count && routing->chains[part->chain].member_count > 1;
}

void kv_call_ask_elsewhere(kv_part *part)
{
    kv_placing placing = {.call = part->call,
                          .attempts = part->attempts,
                          .moves = part->moves + 1,
                          .excluded = part->connection->endpoint};

    assert(part->state == KV_PART_SENT && !part->call->given_up);
    assert(!kv_connection_uses(part->connection, part));
    kv_lane_count(&part->lane->counters.retries, 1);
    if (part_recut(part, &placing) < 0) {
        kv_call_give_up(part->call, KV_UNAVAILABLE);
        return;
    }
    kv_list_remove(&part->call_link);
    kv_connection_forget(part->connection, part);
}

/* Whether all of a part still belongs to the chain that it was sent to. */
static bool part_stays(const kv_part *part)
{
    const kv_client *client = part->lane->client;
    const kv_route_table *routing = part->call->routing;

    if (part->chain >= routing->chain_count || routing->chains[part->chain].version == 0)
        return false;
    for (uint32_t i = 0; i < part->count; i++) {
        const kv_item *item = &part->call->batch.request->items[part->indices[i]];

        if (kv_route_table_find(routing, client->names.tenant, client->names.name_space,
                                (const void *)(uintptr_t)item->key,
                                item->key_size) != part->chain)
            return false;
    }
    return true;
}

void kv_call_repeat(kv_part *part)
{
    const kv_placing placing = {.call = part->call, .excluded = KV_LOAD_NOBODY};
    kv_route_table *before;

    assert(part->sequence != 0 && !part->call->given_up);
    kv_lane_count(&part->lane->counters.retries, 1);
    if (part->chain_version == 0) { /* only the node that it was sent to may know of it */
        kv_connection_add(part->connection, part);
        return;
    }
    before = routing_refresh(part->call);
    if (before)
        kv_route_table_release(before);
    if (part_stays(part)) {
        if (part_aim(part, &placing) < 0)
            kv_call_hold(part);
        return;
    }
    kv_call_end_channel(part, false);
    kv_call_fail_part(part, KV_OUTCOME_UNKNOWN);
}

bool kv_call_is_behind(const kv_part *part)
{
    if (part->call->kind == KV_CALL_CONTROL)
        return false;
    if (part->sequence != 0 && part->chain_version == 0)
        return false;
    return part->generation != kv_client_generation(part->lane->client);
}

bool kv_call_may_move(const kv_part *part)
{
    const kv_client *client = part->lane->client;
    const kv_route_table *routing = part->call->routing;
    uint64_t now_ns = kv_clock_ns();
    const kv_member *members;

    if (kv_call_is_behind(part))
        return true;
    if (part->operation == 0 || !part->idempotent)
        return false;
    assert(routing->generation == part->generation);
    members = kv_route_table_members(routing, &routing->chains[part->chain]);
    for (uint32_t i = 0; i < routing->chains[part->chain].member_count; i++)
        if (members[i].endpoint != part->connection->endpoint &&
            !kv_load_is_avoided(&client->loads[members[i].endpoint], now_ns))
            return true;
    return false;
}

void kv_call_move(kv_part *part)
{
    if (part->sequence != 0)
        kv_call_repeat(part);
    else
        kv_call_retry(part);
}

void kv_lane_reroute(kv_lane *lane)
{
    kv_list held;
    kv_list *link;

    lane->generation = kv_client_generation(lane->client);
    kv_list_init(&held);
    while ((link = kv_list_pop(&lane->held)) != NULL)
        kv_list_append(&held, link);
    while ((link = kv_list_pop(&held)) != NULL) {
        kv_part *part = KV_CONTAINER(link, kv_part, link);

        kv_timer_stop(lane->reactor, &part->pause);
        part_resume(part);
    }
    for (uint32_t i = 0; i < lane->connection_capacity; i++)
        if (lane->connections[i])
            kv_connection_reroute(lane->connections[i]);
    kv_lane_work(lane);
}
