/* Resync where a value is damaged at the target that feeds the other one. */

#include "node_holdings.h"

#include <fcntl.h>
#include <sys/stat.h>

#define COUNT 20u
#define SIZE_MAX_OF_VALUE 9000u
#define DAMAGED 3u
#define SEED 1u

static const uint32_t order[] = {0, 1, 2};
static const char stored_key[] = "\0\0c-3"; /* of the default tenant and namespace */

static uint8_t *find(uint8_t *bytes, size_t size, const uint8_t *wanted, size_t wanted_size)
{
    uint8_t *found = memmem(bytes, size, wanted, wanted_size);

    assert(found);
    assert(!memmem(found + 1, size - (size_t)(found + 1 - bytes), wanted, wanted_size));
    return found;
}

/* A byte of the value is another one on the device from now on; the node starts again, so that
 * nothing of it is in memory. */
static void damage(chain_world *world, uint32_t node, const node_batch *batch)
{
    node_world *place = &world->nodes[node];
    const uint8_t *value = batch->values + (size_t)DAMAGED * batch->size_max;
    char name[96];
    uint8_t *bytes;
    struct stat stat;
    int file;

    world_stop(place);
    snprintf(name, sizeof(name), "%s/slabs", place->directories[0]);
    file = open(name, O_RDWR);
    assert(file >= 0 && fstat(file, &stat) == 0);
    bytes = malloc((size_t)stat.st_size);
    assert(bytes && read(file, bytes, (size_t)stat.st_size) == stat.st_size);
    value = find(bytes, (size_t)stat.st_size, value, batch_size_of(batch, DAMAGED, SEED));
    assert(pwrite(file, "\x55\xaa", 2, value - bytes + 100) == 2);
    close(file);
    free(bytes);
    world_start(place);
    chain_address(world, node);
}

static uint32_t lost_of(chain_world *world, uint32_t node)
{
    return (uint32_t)world_statistics(&world->nodes[node]).events[KV_EVENT_VALUE_LOST];
}

static void fill(chain_world *world, node_batch *batch)
{
    node_client head = client_open(&world->nodes[0], 1);

    client_set(&head, batch, "c", SEED);
    client_close(&head);
}

/* `status` for the one that was damaged. */
static void read_at(chain_world *world, uint32_t node, node_batch *batch, kv_status status)
{
    node_client client = client_open(&world->nodes[node], 10 + node);

    client_run(&client, batch_prepare(batch, KV_OP_GET, "c", SEED));
    for (uint32_t i = 0; i < batch->request.count; i++)
        assert(batch->items[i].status == (int32_t)(i == DAMAGED ? status : KV_OK));
    client_close(&client);
}

/* The target that feeds is the only one that serves. */
static void what_nobody_has_whole_is_lost_and_told(void)
{
    node_world plan = world_plan(1);
    node_batch batch = batch_make(COUNT, SIZE_MAX_OF_VALUE);
    chain_world world;
    kv_node_event event;

    chain_open(&world, 2, &plan);
    chain_draw(&world, order, 1, false);
    fill(&world, &batch);
    damage(&world, 0, &batch);
    chain_draw(&world, order, 1, true);
    event = world_event(&world.nodes[0], KV_EVENT_VALUE_LOST);
    assert(event.connection == 1 && strstr(event.text, "c-3"));
    world_event(&world.nodes[1], KV_EVENT_SYNCED);
    holdings_agree(&world, 0, 1, COUNT - 1);
    chain_draw(&world, order, 2, false);
    read_at(&world, 0, &batch, KV_NOT_FOUND);
    read_at(&world, 1, &batch, KV_NOT_FOUND);
    assert(lost_of(&world, 0) == 1);
    batch_free(&batch);
    chain_close(&world);
}

/* What came back with it is not asked for: it may heal the other one then. */
static void what_the_returned_target_has_whole_stays(void)
{
    node_world plan = world_plan(1);
    node_batch batch = batch_make(COUNT, SIZE_MAX_OF_VALUE);
    chain_world world;

    chain_open(&world, 2, &plan);
    chain_draw(&world, order, 2, false);
    fill(&world, &batch);
    chain_draw(&world, order, 1, false);
    damage(&world, 0, &batch);
    chain_draw(&world, order, 1, true);
    world_event(&world.nodes[1], KV_EVENT_SYNCED);
    holdings_agree(&world, 0, 1, COUNT);
    chain_draw(&world, order, 2, false);
    read_at(&world, 0, &batch, KV_CORRUPT);
    read_at(&world, 1, &batch, KV_OK);
    assert(lost_of(&world, 0) == 0);
    batch_free(&batch);
    chain_close(&world);
}

/* Another one serves, too: what it has may come from there at any time. */
static void what_is_healed_meanwhile_gets_there(void)
{
    node_world plan = world_plan(1);
    node_batch batch = batch_make(COUNT, SIZE_MAX_OF_VALUE);
    const uint8_t *value = batch.values + (size_t)DAMAGED * batch.size_max;
    uint8_t entry[KV_KEY_SIZE_LIMIT];
    chain_world world;
    kv_node *feeder;

    chain_open(&world, 3, &plan);
    chain_draw(&world, order, 2, false);
    fill(&world, &batch);
    damage(&world, 1, &batch);
    feeder = world.nodes[1].node;
    chain_draw(&world, order, 2, true);
    while (kv_node_damaged(feeder, 1, entry, sizeof(entry)) <= 0 ||
           chain_state_of(&world, 1).resync_sent < COUNT - 1)
        sched_yield();
    assert(chain_state_of(&world, 2).local == KV_LOCAL_ONLINE);
    assert(kv_node_repair(feeder, 1, stored_key, sizeof(stored_key) - 1, value,
                          batch_size_of(&batch, DAMAGED, SEED)) == 0);
    world_event(&world.nodes[2], KV_EVENT_SYNCED);
    holdings_agree(&world, 0, 2, COUNT);
    assert(lost_of(&world, 1) == 0);
    batch_free(&batch);
    chain_close(&world);
}

int main(void)
{
    what_nobody_has_whole_is_lost_and_told();
    what_the_returned_target_has_whole_stays();
    what_is_healed_meanwhile_gets_there();
    return 0;
}
