/* Cache mode in chains: they take far more than fits, refuse nothing, and stay alike. */

#include "node_holdings.h"

#define MIB (1ull << 20)

static const uint32_t order[] = {0, 1, 2};

static node_world cache_plan(void)
{
    node_world plan = world_plan(1);

    plan.store.eviction = KV_EVICTION_CACHE;
    plan.store.durability = KV_DURABILITY_DISK;
    return plan;
}

/* Nodes with targets of these capacities. */
static void caches_open(chain_world *world, const node_world *plan, uint32_t count,
                        const uint64_t *capacities)
{
    *world = (chain_world){.count = count};
    for (uint32_t i = 0; i < count; i++) {
        world->nodes[i] = *plan;
        world->nodes[i].options.node = i + 1;
        world->nodes[i].store.capacity = capacities[i];
        world_open(&world->nodes[i]);
        chain_address(world, i);
    }
}

static uint64_t evictions_of(chain_world *world, uint32_t node)
{
    kv_store_statistics statistics;

    assert(kv_node_target_statistics(world->nodes[node].node, 1, &statistics) == 0);
    assert(statistics.offline == 0);
    return statistics.evictions;
}

/* No update goes on, and space is as it should be, so that none begins. */
static bool is_quiet(chain_world *world, uint32_t head)
{
    kv_store_statistics statistics;

    for (uint32_t i = head; i < world->count; i++) {
        assert(kv_node_target_statistics(world->nodes[i].node, 1, &statistics) == 0);
        if (chain_state_of(world, i).updates_in_flight > 0 ||
            statistics.space_free + statistics.space_quarantined < statistics.capacity / 50)
            return false;
    }
    return true;
}

static void wait_quiet(chain_world *world, uint32_t head)
{
    uint32_t quiet = 0;

    while (quiet < 100) { /* one answer is from before the other */
        quiet = is_quiet(world, head) ? quiet + 1 : 0;
        sched_yield();
    }
}

/* Once the head has evicted nothing while each said what it holds. */
static void all_agree(chain_world *world, uint32_t head)
{
    holding *held[CHAIN_NODES_MAX] = {0};
    uint64_t before;

    do {
        for (uint32_t i = head; i < world->count; i++)
            if (held[i])
                holding_free(held[i]);
        wait_quiet(world, head);
        before = evictions_of(world, head);
        for (uint32_t i = head; i < world->count; i++)
            held[i] = holding_take(world, i);
        wait_quiet(world, head);
    } while (evictions_of(world, head) != before);
    assert(held[head]->count > 0);
    for (uint32_t i = head; i < world->count; i++) {
        holding_same(held[head], held[i]);
        if (i > head)
            holding_free(held[i]);
    }
    holding_free(held[head]);
}

/* What is read right after it was set is there, wherever it is read. */
static void is_everywhere(chain_world *world, node_batch *batch, const char *key, uint32_t seed)
{
    for (uint32_t i = 0; i < world->count; i++) {
        node_client client = client_open(&world->nodes[i], 90 + i);

        client_get(&client, batch, key, seed);
        client_close(&client);
    }
}

static void pin(chain_world *world, node_batch *batch, const char *key)
{
    node_client head = client_open(&world->nodes[0], 80);

    client_set(&head, batch, key, 1);
    client_run(&head, batch_prepare(batch, KV_OP_PIN, key, 0));
    batch_expect(batch, KV_OK);
    client_close(&head);
}

/* What the nodes have to say about a connection that they closed. */
static void tell(chain_world *world)
{
    kv_node_event events[64];

    for (uint32_t i = 0; i < world->count; i++) {
        kv_node *node = world->nodes[i].node;
        int count = node ? kv_node_take_events(node, events, 64) : 0;

        for (int k = 0; k < count; k++)
            fprintf(stderr, "node %u: event %u: %s\n", i, events[k].kind, events[k].text);
    }
    abort();
}

/* Several clients at once, each with keys of its own and with some that all of them set. */
static void flood(chain_world *world, uint32_t head, uint32_t rounds)
{
    enum { CLIENTS = 3, COUNT = 24, VALUE_MAX = 48000 };
    node_client clients[CLIENTS];
    node_batch batches[CLIENTS];
    static uint32_t number = 1000; /* each client its own: sequences begin anew */
    char key[32];

    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = client_open(&world->nodes[head], ++number);
        batches[i] = batch_make(COUNT, VALUE_MAX);
    }
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < CLIENTS; i++) {
            snprintf(key, sizeof(key), "%u-%u-%u", head, round, round % 4 == 3 ? CLIENTS : i);
            client_send(&clients[i], batch_prepare(&batches[i], KV_OP_SET, key, round));
        }
        for (uint32_t i = 0; i < CLIENTS; i++) {
            if (client_collect(&clients[i], &batches[i].request) == 0)
                tell(world);
            batch_expect(&batches[i], KV_OK);
        }
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        client_close(&clients[i]);
        batch_free(&batches[i]);
    }
}

static void far_more_than_fits_goes_in(const node_world *plan, uint32_t count,
                                       const uint64_t *capacities)
{
    node_batch pinned = batch_make(10, 20000);
    node_batch last = batch_make(10, 20000);
    chain_world world;
    node_client client;

    caches_open(&world, plan, count, capacities);
    chain_draw(&world, order, count, false);
    pin(&world, &pinned, "pinned");
    flood(&world, 0, 18);
    client = client_open(&world.nodes[0], 70);
    client_set(&client, &last, "last", 3);
    client_close(&client);
    is_everywhere(&world, &last, "last", 3);
    is_everywhere(&world, &pinned, "pinned", 1);
    all_agree(&world, 0);
    for (uint32_t i = 0; i < count; i++)
        assert(evictions_of(&world, i) > 200);
    batch_free(&pinned);
    batch_free(&last);
    chain_close(&world);
}

/* Each head in its turn evicts for those that are left. */
static void the_next_head_goes_on(const node_world *plan)
{
    static const uint64_t capacities[] = {12 * MIB, 12 * MIB, 12 * MIB};
    chain_world world;

    caches_open(&world, plan, 3, capacities);
    chain_draw(&world, order, 3, false);
    flood(&world, 0, 6);
    world_stop(&world.nodes[0]);
    chain_draw(&world, order + 1, 2, false);
    flood(&world, 1, 6);
    all_agree(&world, 1);
    world_stop(&world.nodes[1]);
    chain_draw(&world, order + 2, 1, false);
    flood(&world, 2, 6); /* alone: by itself */
    world_directories_remove(&world.nodes[0]);
    world_directories_remove(&world.nodes[1]);
    chain_close(&world);
}

/* What is full gets a successor with less space: the head evicts for it, also when it does not feed
 * it itself, and nobody sets anything meanwhile. */
static void a_smaller_target_joins_a_full_cache(const node_world *plan, uint32_t serving)
{
    static const uint64_t capacities[2][3] = {{16 * MIB, 8 * MIB}, {12 * MIB, 12 * MIB, 8 * MIB}};
    chain_world world;

    caches_open(&world, plan, serving + 1, capacities[serving - 1]);
    chain_draw(&world, order, serving, false);
    flood(&world, 0, 12);
    chain_draw(&world, order, serving, true);
    world_event(&world.nodes[serving], KV_EVENT_SYNCED);
    chain_draw(&world, order, serving + 1, false);
    flood(&world, 0, 2);
    all_agree(&world, 0);
    chain_close(&world);
}

/* What is pinned may not go: it is tried less and less often, and people are told since when. When
 * it may, the target joins. */
static void a_target_too_small_for_what_is_pinned_waits(const node_world *plan)
{
    enum { COUNT = 400, VALUE_MAX = 60000 };
    static const uint64_t capacities[] = {24 * MIB, 8 * MIB};
    node_batch batch = batch_make(COUNT, VALUE_MAX);
    chain_world world;
    uint64_t received;
    node_client head;

    caches_open(&world, plan, 2, capacities);
    chain_draw(&world, order, 1, false);
    pin(&world, &batch, "pinned");
    chain_draw(&world, order, 1, true);
    while (chain_state_of(&world, 0).resync_vain_ms == 0)
        sched_yield();
    received = world_statistics(&world.nodes[1]).received_bytes;
    while (chain_state_of(&world, 0).resync_vain_ms < 1500)
        sched_yield();
    assert(world_statistics(&world.nodes[1]).received_bytes - received < 12 * MIB);
    head = client_open(&world.nodes[0], 81);
    client_run(&head, batch_prepare(&batch, KV_OP_UNPIN, "pinned", 0));
    batch_expect(&batch, KV_OK);
    client_close(&head);
    world_event(&world.nodes[1], KV_EVENT_SYNCED);
    assert(chain_state_of(&world, 0).resync_vain_ms == 0);
    batch_free(&batch);
    chain_close(&world);
}

/* The same where the number of objects is what is short. */
static void objects_stay_within_their_limit(const node_world *plan)
{
    static const uint64_t capacities[] = {64 * MIB, 64 * MIB};
    node_world limited = *plan;
    node_batch batch = batch_make(100, 300);
    kv_store_statistics statistics;
    chain_world world;
    node_client client;

    limited.store.objects_max = 1000;
    caches_open(&world, &limited, 2, capacities);
    chain_draw(&world, order, 2, false);
    client = client_open(&world.nodes[0], 60);
    for (uint32_t round = 0; round < 25; round++) {
        char key[16];

        snprintf(key, sizeof(key), "o%u", round);
        client_set(&client, &batch, key, round);
        assert(kv_node_target_statistics(world.nodes[1].node, 1, &statistics) == 0);
        assert(statistics.objects <= 1100); /* a batch that began below the limit */
    }
    client_close(&client);
    all_agree(&world, 0);
    assert(evictions_of(&world, 0) > 1000);
    batch_free(&batch);
    chain_close(&world);
}

int main(void)
{
    static const uint64_t even[] = {12 * MIB, 12 * MIB, 12 * MIB};
    static const uint64_t tail_small[] = {24 * MIB, 24 * MIB, 8 * MIB};
    static const uint64_t head_small[] = {8 * MIB, 24 * MIB};
    node_world plan = cache_plan();

    far_more_than_fits_goes_in(&plan, 1, even);
    far_more_than_fits_goes_in(&plan, 2, head_small);
    far_more_than_fits_goes_in(&plan, 3, tail_small);
    the_next_head_goes_on(&plan);
    a_smaller_target_joins_a_full_cache(&plan, 1);
    a_smaller_target_joins_a_full_cache(&plan, 2);
    a_target_too_small_for_what_is_pinned_waits(&plan);
    objects_stay_within_their_limit(&plan);
    plan.options.reactors = 2;
    plan.store.durability = KV_DURABILITY_MEMORY;
    far_more_than_fits_goes_in(&plan, 3, even);
    far_more_than_fits_goes_in(&plan, 3, tail_small);
    return 0;
}
