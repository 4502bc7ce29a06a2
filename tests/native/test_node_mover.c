/* Slots that move from one chain of real nodes to another, as mgmtd has them move: nothing is lost,
 * and what was deleted meanwhile stays deleted. */

#include "node_chains.h"

#include "protocol/placement.h"

#define TABLE_SIZE 16u
#define KEYS 240u

static const uint32_t giving[] = {0, 1}, taking[] = {2, 3};
static const uint32_t moving[] = {0, 2, 3, 5, 7, 8, 11, 14};
#define MOVING_COUNT (sizeof(moving) / sizeof(moving[0]))

static void draw(chain_world *world, const uint32_t *order, uint64_t version)
{
    world->routing_version++;
    world->chain_version = version;
    for (uint32_t i = 0; i < 2; i++)
        chain_tell(world, order[i], order, 2, false);
}

static bool moves(const char *key)
{
    kv_placement_hash hash = kv_placement_of("default", "default", key, strlen(key));
    uint32_t slot = kv_placement_slot(hash, TABLE_SIZE);

    for (uint32_t i = 0; i < MOVING_COUNT; i++)
        if (moving[i] == slot)
            return true;
    return false;
}

/* From the target of one node to that of another. */
static void give(chain_world *world, uint32_t from, uint32_t to, kv_move move)
{
    const char *address = world->addresses[to];

    move.source = move.target = 1;
    move.slot_count = MOVING_COUNT;
    move.table_size = TABLE_SIZE;
    assert(kv_node_set_moves(world->nodes[from].node, &move, 1, moving, MOVING_COUNT, &address, 1,
                             world->message) == 0);
}

static kv_chain_state wait_state(chain_world *world, uint32_t node, uint32_t wanted)
{
    kv_chain_state state;

    do
        state = chain_state_of(world, node);
    while (state.move_state != wanted && sched_yield() == 0);
    return state;
}

/* How many of the moving keys, or of the others, a target holds. */
static uint32_t held(chain_world *world, uint32_t node, node_batch *batch, const char *name,
                     uint32_t seed, bool moved)
{
    node_client client = client_open(&world->nodes[node], 50);
    uint32_t count = 0;

    client_run(&client, batch_prepare(batch, KV_OP_GET, name, seed));
    for (uint32_t i = 0; i < batch->request.count; i++) {
        assert(batch->items[i].status == KV_OK || batch->items[i].status == KV_NOT_FOUND);
        count += batch->items[i].status == KV_OK && moves(batch->keys[i]) == moved;
    }
    client_close(&client);
    return count;
}

static uint32_t moving_among(node_batch *batch, const char *name, uint32_t first, uint32_t end)
{
    uint32_t count = 0;

    batch_prepare(batch, KV_OP_GET, name, 0);
    for (uint32_t i = first; i < end; i++)
        count += moves(batch->keys[i]);
    return count;
}

/* The values of the moving keys from `first` on are those of this seed, at both ends of a chain. */
static void expect_moved(chain_world *world, const uint32_t *order, node_batch *batch,
                         uint32_t first, uint32_t end, uint32_t seed)
{
    for (uint32_t k = 0; k < 2; k++) {
        node_client client = client_open(&world->nodes[order[k]], 60 + k);

        client_run(&client, batch_prepare(batch, KV_OP_GET, "k", 0));
        for (uint32_t i = first; i < end; i++) {
            uint32_t size = batch_size_of(batch, i, seed);
            uint8_t *wanted = malloc(size + 1);

            assert(wanted);
            batch_fill(wanted, size, i, seed);
            if (moves(batch->keys[i])) {
                assert(batch->items[i].status == KV_OK && batch->items[i].result_size == size);
                assert(memcmp((const void *)(uintptr_t)batch->items[i].value, wanted, size) == 0);
            } else {
                assert(batch->items[i].status == KV_NOT_FOUND);
            }
            free(wanted);
        }
        client_close(&client);
    }
}

/* What a move that was given up left behind is cleared away by the next one. */
static void leftovers_are_deleted(chain_world *world, node_batch *batch)
{
    node_client client = client_open(&world->nodes[2], 1);
    uint32_t others;

    client_set(&client, batch, "k", 9);
    client_set(&client, batch, "left", 9);
    others = held(world, 2, batch, "k", 9, false) + held(world, 2, batch, "left", 9, false);
    draw(world, taking, 9);
    give(world, 3, 2, (kv_move){.id = 1, .chain_version = 9, .flags = KV_MOVE_DELETE});
    wait_state(world, 3, KV_MOVE_DONE);
    for (uint32_t k = 0; k < 2; k++) {
        assert(held(world, taking[k], batch, "k", 9, true) == 0);
        assert(held(world, taking[k], batch, "left", 9, true) == 0);
    }
    assert(held(world, 2, batch, "k", 9, false) + held(world, 2, batch, "left", 9, false) ==
           others);
    client_close(&client);
    client = client_open(&world->nodes[2], 2);
    client_run(&client, batch_prepare(batch, KV_OP_DELETE, "k", 0));
    client_run(&client, batch_prepare(batch, KV_OP_DELETE, "left", 0));
    client_close(&client);
}

/* Sets, deletes and pins go on while the slots are copied. */
static void what_changes_meanwhile_moves_too(chain_world *world, node_batch *batch)
{
    node_client client = client_open(&world->nodes[0], 3);
    kv_chain_state state;

    client_set(&client, batch, "k", 1);
    kv_node_set_resync_rate(world->nodes[1].node, 1u << 20);
    give(world, 1, 2, (kv_move){.id = 2, .chain_version = 9});
    for (uint32_t seed = 2; seed < 30; seed++)
        client_set(&client, batch, "k", seed);
    batch->request.count = 40;
    client_run(&client, batch_prepare(batch, KV_OP_DELETE, "k", 0));
    batch_expect(batch, KV_OK);
    batch->request.count = KEYS;
    kv_node_set_resync_rate(world->nodes[1].node, 0);
    state = wait_state(world, 1, KV_MOVE_READY);
    assert(state.move == 2 && state.move_objects > 0);
    batch->request.count = 60;
    client_set(&client, batch, "k", 30);
    batch->request.count = 40;
    client_run(&client, batch_prepare(batch, KV_OP_DELETE, "k", 0));
    batch->request.count = KEYS;
    draw(world, giving, 6); /* frozen: nothing of these slots comes any more */
    do
        state = chain_state_of(world, 0);
    while (!state.settled || state.chain_version != 6);
    give(world, 1, 2, (kv_move){.id = 2, .chain_version = 9, .flags = KV_MOVE_LAST});
    wait_state(world, 1, KV_MOVE_DONE);
    client_close(&client);
    expect_moved(world, taking, batch, 40, 60, 30);
    expect_moved(world, taking, batch, 60, KEYS, 29);
    for (uint32_t k = 0; k < 2; k++)
        assert(held(world, taking[k], batch, "k", 0, true) == moving_among(batch, "k", 40, KEYS));
}

static void the_chain_that_gave_deletes(chain_world *world, node_batch *batch)
{
    uint32_t others = held(world, 0, batch, "k", 29, false);

    give(world, 1, 0, (kv_move){.id = 3, .chain_version = 6, .flags = KV_MOVE_DELETE});
    wait_state(world, 1, KV_MOVE_DONE);
    for (uint32_t k = 0; k < 2; k++) {
        assert(held(world, giving[k], batch, "k", 0, true) == 0);
        assert(held(world, giving[k], batch, "k", 0, false) == others);
    }
    expect_moved(world, taking, batch, 60, KEYS, 29);
}

/* It waits until the other chain goes by the version that it names; and rests when it is told. */
static void another_version_is_refused(chain_world *world, node_batch *batch)
{
    node_client client = client_open(&world->nodes[2], 4);

    give(world, 3, 0, (kv_move){.id = 4, .chain_version = 7});
    client_set(&client, batch, "new", 1);
    assert(held(world, 0, batch, "new", 1, true) == 0);
    assert(chain_state_of(world, 3).move_state == KV_MOVE_WORKING);
    draw(world, giving, 7);
    wait_state(world, 3, KV_MOVE_READY);
    assert(held(world, 0, batch, "new", 1, true) > 0);
    draw(world, giving, 8);
    client_set(&client, batch, "late", 1);
    assert(kv_node_set_moves(world->nodes[3].node, NULL, 0, NULL, 0, NULL, 0, world->message) == 0);
    assert(chain_state_of(world, 3).move == 0);
    give(world, 3, 0, (kv_move){.id = 4, .chain_version = 7});
    assert(chain_state_of(world, 3).move_state == KV_MOVE_FAILED);
    assert(kv_node_set_moves(world->nodes[3].node, NULL, 0, NULL, 0, NULL, 0, world->message) == 0);
    assert(held(world, 0, batch, "late", 1, true) == 0);
    client_close(&client);
}

static void what_cannot_be_is_refused(chain_world *world)
{
    const uint32_t slot = TABLE_SIZE;
    const char *address = world->addresses[0];
    kv_move good = {.id = 1, .chain_version = 1, .source = 1, .target = 1, .slot_count = 1,
                    .table_size = 2 * TABLE_SIZE};
    kv_move bad[] = {good, good, good, good, good, good};
    kv_node *node = world->nodes[1].node;

    bad[0].source = 2;
    bad[1].id = 0;
    bad[2].chain_version = 0;
    bad[3].node = 1;
    bad[4].table_size = TABLE_SIZE;
    bad[5].flags = 4;
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert(kv_node_set_moves(node, &bad[i], 1, &slot, 1, &address, 1, world->message) ==
               -EINVAL);
}

static void run(uint32_t reactors)
{
    node_world plan = world_plan(1);
    node_batch batch = batch_make(KEYS, 3000);
    chain_world world;

    plan.options.reactors = reactors;
    chain_open(&world, 4, &plan);
    draw(&world, giving, 5);
    draw(&world, taking, 8);
    leftovers_are_deleted(&world, &batch);
    what_changes_meanwhile_moves_too(&world, &batch);
    the_chain_that_gave_deletes(&world, &batch);
    another_version_is_refused(&world, &batch);
    what_cannot_be_is_refused(&world);
    chain_close(&world);
    batch_free(&batch);
}

int main(void)
{
    run(1);
    run(2);
    return 0;
}
