/* Resync between real nodes: a target that joins a chain lacks nothing once it says so. */

#include "node_chains.h"

static const uint32_t order[] = {0, 1, 2};

/* Everything that a target holds, as KV_CONTROL_LIST_STORED says it, in the order of its keys. */
typedef struct holding {
    uint8_t *entries[4096];
    uint32_t count;
} holding;

#define ENTRY_SIZE 28u

static int entry_compare(const void *a, const void *b)
{
    const uint8_t *one = *(uint8_t *const *)a, *other = *(uint8_t *const *)b;
    uint32_t size = kv_endian_load_u16(one), other_size = kv_endian_load_u16(other);
    int order_of = memcmp(one + ENTRY_SIZE, other + ENTRY_SIZE,
                          size < other_size ? size : other_size);

    return order_of ? order_of : (int)size - (int)other_size;
}

static holding *holding_take(chain_world *world, uint32_t node)
{
    node_client client = client_open(&world->nodes[node], 77);
    holding *held = calloc(1, sizeof(*held));
    uint64_t cursor = 0;

    assert(held);
    while (cursor != UINT64_MAX) {
        uint8_t body[12], *reply;
        int64_t size;

        kv_endian_store_u64(body, cursor);
        kv_endian_store_u32(body + 8, 16384);
        size = client_control(&client, KV_CONTROL_LIST_STORED, 1, body, sizeof(body), &reply);
        assert(size >= 8);
        cursor = kv_endian_load_u64(reply);
        for (int64_t at = 8; at < size;) {
            uint32_t entry = ENTRY_SIZE + kv_endian_load_u16(reply + at);

            assert(held->count < 4096);
            held->entries[held->count] = malloc(entry);
            memcpy(held->entries[held->count++], reply + at, entry);
            at += entry;
        }
        free(reply);
    }
    qsort(held->entries, held->count, sizeof(held->entries[0]), entry_compare);
    client_close(&client);
    return held;
}

static void holding_free(holding *held)
{
    for (uint32_t i = 0; i < held->count; i++)
        free(held->entries[i]);
    free(held);
}

static void holdings_agree(chain_world *world, uint32_t one, uint32_t other, uint32_t count)
{
    holding *a = holding_take(world, one), *b = holding_take(world, other);

    assert(a->count == count && b->count == count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = ENTRY_SIZE + kv_endian_load_u16(a->entries[i]);

        assert(memcmp(a->entries[i], b->entries[i], size) == 0);
    }
    holding_free(a);
    holding_free(b);
}

static void wait_synced(chain_world *world, uint32_t node)
{
    world_event(&world->nodes[node], KV_EVENT_SYNCED);
    assert(chain_state_of(world, node).local == KV_LOCAL_UPTODATE);
}

static void a_new_target_gets_everything(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 1);
    node_batch batch = batch_make(300, 9000);
    node_batch large = batch_make(3, 2u << 20);
    node_client client;

    chain_draw(world, order, 1, false);
    client_set(&head, &batch, "a", 1);
    client_set(&head, &large, "large", 2);
    batch.request.count = 7;
    client_run(&head, batch_prepare(&batch, KV_OP_PIN, "a", 0));
    batch.request.count = 300;
    chain_draw(world, order, 1, true);
    assert(chain_state_of(world, 1).local == KV_LOCAL_ONLINE);
    wait_synced(world, 1);
    holdings_agree(world, 0, 1, 303);
    chain_draw(world, order, 2, false);
    client = client_open(&world->nodes[1], 2);
    client_get(&client, &batch, "a", 1);
    client_get(&client, &large, "large", 2);
    batch_free(&batch);
    batch_free(&large);
    client_close(&client);
    client_close(&head);
}

/* What it held before is brought in line: changed, pinned and deleted meanwhile. */
static void a_returned_target_is_brought_in_line(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 3);
    node_batch batch = batch_make(200, 5000);

    client_set(&head, &batch, "b", 1);
    chain_draw(world, order, 1, false);
    batch.request.count = 50;
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "b", 0));
    batch_expect(&batch, KV_OK);
    batch.request.count = 70;
    client_set(&head, &batch, "b", 2);
    batch.request.count = 5;
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "b", 0));
    client_run(&head, batch_prepare(&batch, KV_OP_UNPIN, "a", 0));
    batch_expect(&batch, KV_OK);
    chain_draw(world, order, 1, true);
    wait_synced(world, 1);
    holdings_agree(world, 0, 1, 303 + 195);
    batch.request.count = 200;
    batch_free(&batch);
    client_close(&head);
}

/* Updates go on while it syncs; what they change is at both ends the same. */
static void updates_go_on_meanwhile(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 4);
    node_batch batch = batch_make(100, 3000);

    client_set(&head, &batch, "live", 1);
    kv_node_set_resync_rate(world->nodes[0].node, 4u << 20);
    chain_draw(world, order, 1, false);
    chain_draw(world, order + 2, 0, false);
    {
        const uint32_t pair[] = {0, 2};

        chain_draw(world, pair, 1, true);
        for (uint32_t seed = 2; seed < 40; seed++) {
            client_set(&head, &batch, "live", seed);
            batch.request.count = 30;
            client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "live", 0));
            batch.request.count = 100;
        }
        wait_synced(world, 2);
        holdings_agree(world, 0, 2, 303 + 195 + 70);
        assert(chain_state_of(world, 0).resync_sent > 0);
        assert(chain_state_of(world, 0).resyncing == 0);
    }
    batch_free(&batch);
    client_close(&head);
}

static void run(uint32_t reactors)
{
    node_world plan = world_plan(1);
    chain_world world;

    plan.options.reactors = reactors;
    chain_open(&world, 3, &plan);
    a_new_target_gets_everything(&world);
    a_returned_target_is_brought_in_line(&world);
    updates_go_on_meanwhile(&world);
    chain_close(&world);
}

int main(void)
{
    run(1);
    run(2);
    return 0;
}
