/* Which member of a chain a read goes to: in virtual time, by one seed. */

#include "client/load.h"

#include "client/client_limits.h"

#include <assert.h>

#define MEMBERS 3u
#define CALLERS 48u
#define SERVICE_NS 1000000u
#define MS UINT64_C(1000000)

static const kv_member members[MEMBERS] = {{0, 1}, {1, 1}, {2, 1}};

/* Callers that each have one read under way, and nodes that serve one after the other. */
typedef struct kv_queueing {
    kv_load loads[MEMBERS];
    uint64_t free_ns[MEMBERS]; /* when a node has served what it was given */
    uint64_t service_ns[MEMBERS];
    uint64_t begin_ns[CALLERS], end_ns[CALLERS];
    uint32_t at[CALLERS];
    uint32_t served[MEMBERS];
    kv_random random;
} kv_queueing;

static void ask(kv_queueing *world, uint32_t caller, uint32_t count, uint64_t now_ns)
{
    uint32_t chosen =
        kv_load_choose(world->loads, members, count, KV_LOAD_NOBODY, now_ns, &world->random);

    kv_load_enter(&world->loads[chosen], 1, now_ns);
    if (world->free_ns[chosen] < now_ns)
        world->free_ns[chosen] = now_ns;
    world->free_ns[chosen] += world->service_ns[chosen];
    world->at[caller] = chosen;
    world->begin_ns[caller] = now_ns;
    world->end_ns[caller] = world->free_ns[chosen];
}

/* When so many reads are done. */
static uint64_t run(kv_queueing *world, uint32_t count, uint32_t reads)
{
    uint64_t now_ns = MS;

    for (uint32_t i = 0; i < CALLERS; i++)
        ask(world, i, count, now_ns);
    for (uint32_t i = 0; i < reads; i++) {
        uint32_t first = 0;

        for (uint32_t j = 1; j < CALLERS; j++)
            if (world->end_ns[j] < world->end_ns[first])
                first = j;
        now_ns = world->end_ns[first];
        kv_load_leave(&world->loads[world->at[first]], 1);
        kv_load_note(&world->loads[world->at[first]], 1, now_ns - world->begin_ns[first], now_ns);
        world->served[world->at[first]]++;
        ask(world, first, count, now_ns);
    }
    return now_ns;
}

static kv_queueing world_of(uint64_t seed)
{
    kv_queueing world = {.service_ns = {SERVICE_NS, SERVICE_NS, SERVICE_NS}};

    kv_random_init(&world.random, seed);
    return world;
}

static void three_members_serve_nearly_three_times_as_much_as_one(void)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        kv_queueing one = world_of(seed), three = world_of(seed);
        uint64_t alone_ns = run(&one, 1, 3000), together_ns = run(&three, 3, 3000);

        assert(alone_ns * 10 >= together_ns * 28);
    }
}

static void a_slow_member_gets_what_it_can_serve(void)
{
    kv_queueing world = world_of(5);

    world.service_ns[1] = 10 * SERVICE_NS;
    run(&world, 3, 3000);
    assert(world.served[1] > 50);
    assert(world.served[0] > 4 * world.served[1] && world.served[2] > 4 * world.served[1]);
}

static void a_member_that_never_answers_gets_little(void)
{
    kv_queueing world = world_of(6);

    world.service_ns[2] = UINT64_C(1) << 40;
    run(&world, 3, 3000);
    assert(world.served[2] == 0);
    assert(atomic_load(&world.loads[2].units) < CALLERS / 2);
}

static void a_member_that_was_slow_is_tried_again(void)
{
    kv_queueing world = world_of(7);
    uint64_t now_ns = MS;
    bool tried = false;

    kv_load_note(&world.loads[0], 1, MS, now_ns);
    kv_load_note(&world.loads[1], 1, 1000 * MS, now_ns);
    for (int i = 0; i < 100; i++)
        assert(kv_load_choose(world.loads, members, 2, KV_LOAD_NOBODY, now_ns, &world.random) == 0);
    for (int i = 0; i < 20 && !tried; i++) {
        now_ns += KV_CLIENT_LATENCY_HALF_MS * MS;
        kv_load_note(&world.loads[0], 1, MS, now_ns);
        tried = kv_load_choose(world.loads, members, 2, KV_LOAD_NOBODY, now_ns, &world.random) == 1;
    }
    assert(tried);
}

static void an_unreachable_member_is_left_alone_for_longer_and_longer(void)
{
    kv_queueing world = world_of(8);
    uint64_t now_ns = MS, before_ns = 0;

    for (int failure = 0; failure < 10; failure++) {
        uint64_t pause_ns;

        kv_load_avoid(&world.loads[0], now_ns, &world.random);
        pause_ns = atomic_load(&world.loads[0].avoid_ns) - now_ns;
        kv_load_avoid(&world.loads[0], now_ns, &world.random); /* known already */
        assert(pause_ns >= before_ns / 2 && pause_ns <= KV_CLIENT_AVOID_MAX_MS * MS);
        for (int i = 0; i < 50; i++)
            assert(kv_load_choose(world.loads, members, 3, KV_LOAD_NOBODY, now_ns,
                                  &world.random) != 0);
        before_ns = pause_ns;
        now_ns += pause_ns;
        assert(!kv_load_is_avoided(&world.loads[0], now_ns));
    }
    kv_load_reached(&world.loads[0]);
    kv_load_avoid(&world.loads[0], now_ns, &world.random);
    assert(atomic_load(&world.loads[0].avoid_ns) - now_ns <= KV_CLIENT_AVOID_FIRST_MS * MS);
}

static void who_is_to_be_left_alone_is_asked_when_there_is_nobody_else(void)
{
    kv_queueing world = world_of(9);
    uint64_t now_ns = MS;

    for (uint32_t i = 0; i < MEMBERS; i++)
        kv_load_avoid(&world.loads[i], now_ns + i * 1000 * MS, &world.random);
    assert(kv_load_choose(world.loads, members, 3, KV_LOAD_NOBODY, now_ns, &world.random) == 0);
    assert(kv_load_choose(world.loads, members, 3, 0, now_ns, &world.random) == 1);
    assert(kv_load_choose(world.loads, members, 1, 0, now_ns, &world.random) == 0);
}

static void large_values_weigh_as_much_as_the_small_ones_that_take_as_long(void)
{
    assert(kv_load_units(0) == 1);
    assert(kv_load_units(KV_CLIENT_LOAD_UNIT_SIZE) == 2);
    assert(kv_load_units(KV_CLIENT_GET_PART_SIZE) ==
           1 + KV_CLIENT_GET_PART_SIZE / KV_CLIENT_LOAD_UNIT_SIZE);
}

int main(void)
{
    three_members_serve_nearly_three_times_as_much_as_one();
    a_slow_member_gets_what_it_can_serve();
    a_member_that_never_answers_gets_little();
    a_member_that_was_slow_is_tried_again();
    an_unreachable_member_is_left_alone_for_longer_and_longer();
    who_is_to_be_left_alone_is_asked_when_there_is_nobody_else();
    large_values_weigh_as_much_as_the_small_ones_that_take_as_long();
    return 0;
}
