/* Registered memory: values move between the device and the caller without a frame in between, and the
 * caller's memory is never touched after the answer. */

#include "engine_calls.h"

#define REGION_SIZE (1u << 20)
#define VALUE_SIZE (64u << 10)

static uint8_t *region_create(world *state)
{
    uint8_t *region;

    assert(posix_memalign((void **)&region, 4096, REGION_SIZE) == 0);
    memset(region, 0x5a, REGION_SIZE);
    assert(kv_engine_register(state->engine, (uint64_t)region, REGION_SIZE) == 0);
    return region;
}

static uint64_t frames(world *state)
{
    kv_store_statistics statistics;

    kv_engine_statistics(state->engine, &statistics);
    return statistics.memory_objects;
}

static int32_t run_one(world *state, uint32_t operation, const char *key, void *memory, uint32_t size)
{
    kv_item item = calls_item(key, memory, size);
    kv_request request = {.items = &item, .count = 1, .operation = operation};

    calls_run(state, &request);
    return item.status;
}

static void values_move_without_a_frame(void)
{
    world *state = calls_create(&calls_options);
    uint8_t *region = region_create(state);

    model_value_fill(1, 1, region, VALUE_SIZE);
    assert(run_one(state, KV_OP_SET, "k", region, VALUE_SIZE) == KV_OK);
    assert(frames(state) == 0);
    memset(region, 0, VALUE_SIZE);
    assert(run_one(state, KV_OP_GET, "k", region + VALUE_SIZE, VALUE_SIZE) == KV_OK);
    assert(frames(state) == 0);
    model_value_fill(1, 1, region, VALUE_SIZE);
    assert(memcmp(region, region + VALUE_SIZE, VALUE_SIZE) == 0);

    calls_reopen(state, CALLS_KILL);
    assert(calls_holds(state, "k", 1, VALUE_SIZE));
    free(region);
    world_destroy(state);
}

static void what_does_not_fit_the_device_goes_through_a_frame(void)
{
    static const uint32_t sizes[] = {100, 5000, VALUE_SIZE - 1, VALUE_SIZE};
    world *state = calls_create(&calls_options);
    uint8_t *region = region_create(state);

    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *source = region + (i == 3 ? 512 : 0); /* the last one is not on a page */
        uint8_t *target = region + REGION_SIZE / 2 + 512;

        model_value_fill(i, 1, source, sizes[i]);
        assert(run_one(state, KV_OP_SET, "k", source, sizes[i]) == KV_OK);
        assert(frames(state) == 1);
        assert(run_one(state, KV_OP_GET, "k", target, sizes[i]) == KV_OK);
        assert(memcmp(source, target, sizes[i]) == 0);
    }
    free(region);
    world_destroy(state);
}

static void a_read_leaves_what_follows_the_room_alone(void)
{
    world *state = calls_create(&calls_options);
    uint8_t *region = region_create(state);
    uint32_t size = VALUE_SIZE - 96; /* an extent of whole pages, but a value that ends within one */

    assert(calls_set(state, "k", 1, size) == KV_OK);
    calls_reopen(state, CALLS_CLOSE);
    assert(kv_engine_register(state->engine, (uint64_t)region, REGION_SIZE) == 0);
    memset(region, 0x5a, REGION_SIZE);
    assert(run_one(state, KV_OP_GET, "k", region, size) == KV_OK);
    for (uint32_t i = size; i < VALUE_SIZE + 4096; i++)
        assert(region[i] == 0x5a);
    free(region);
    world_destroy(state);
}

static void a_flipped_bit_is_an_error_of_that_key(void)
{
    world *state = calls_create(&calls_options);
    uint8_t *region = region_create(state);
    uint64_t size;
    uint8_t *stored;

    model_value_fill(1, 1, region, VALUE_SIZE);
    assert(run_one(state, KV_OP_SET, "k", region, VALUE_SIZE) == KV_OK);
    stored = kv_sim_bytes(state->sim, KV_FILE_SLABS, &size);
    for (uint64_t at = 0; at + VALUE_SIZE <= size; at += 4096)
        if (memcmp(stored + at, region, VALUE_SIZE) == 0)
            kv_sim_flip(state->sim, KV_FILE_SLABS, at + 777, 4);
    assert(run_one(state, KV_OP_GET, "k", region + VALUE_SIZE, VALUE_SIZE) == KV_CORRUPT);
    free(region);
    world_destroy(state);
}

/* Abort while the device moves the memory: the answer comes after the device has let go. */
static void an_abort_waits_for_the_device(uint32_t operation)
{
    world *state = calls_create(&calls_options);
    uint8_t *region = region_create(state);
    kv_item item = calls_item("k", region, VALUE_SIZE);
    kv_request request = {.items = &item, .count = 1, .operation = operation};
    world_client *client;

    assert(run_one(state, KV_OP_SET, "k", region, VALUE_SIZE) == KV_OK);
    client = calls_begin(state, &request);
    while (world_step_any(state))
        continue;
    assert(kv_sim_in_flight(state->sim) > 0 && !client->answered);
    assert(kv_engine_unregister(state->engine, (uint64_t)region) == -EBUSY);
    kv_operation_abort(client->operation, KV_CANCELLED);
    while (world_step_any(state))
        continue;
    assert(!client->answered);
    calls_finish(state, client);
    assert(item.status == KV_CANCELLED);
    assert(kv_engine_unregister(state->engine, (uint64_t)region) == 0);
    assert(calls_holds(state, "k", 1, VALUE_SIZE) || calls_status(state, "k") == KV_OK);
    free(region);
    world_destroy(state);
}

static void regions_are_checked(void)
{
    world *state = calls_create(&calls_options);
    kv_engine *engine = state->engine;

    assert(kv_engine_register(engine, 0x10000, 0x1000) == 0);
    assert(kv_engine_register(engine, 0x12000, 0x1000) == 0);
    assert(kv_engine_register(engine, 0x11000, 0x1000) == 0);
    assert(kv_engine_register(engine, 0x10800, 0x100) == -EEXIST);
    assert(kv_engine_register(engine, 0xf000, 0x1001) == -EEXIST);
    assert(kv_engine_register(engine, 0, 0x1000) == -EINVAL);
    assert(kv_engine_register(engine, 0x1000, 0) == -EINVAL);
    assert(kv_engine_register(engine, UINT64_MAX - 10, 100) == -EINVAL);
    assert(kv_engine_unregister(engine, 0x10800) == -ENOENT);
    assert(kv_engine_unregister(engine, 0x11000) == 0);
    assert(kv_engine_unregister(engine, 0x11000) == -ENOENT);
    assert(kv_engine_register(engine, 0x11000, 0x1000) == 0);
    world_destroy(state);
}

int main(void)
{
    values_move_without_a_frame();
    what_does_not_fit_the_device_goes_through_a_frame();
    a_read_leaves_what_follows_the_room_alone();
    a_flipped_bit_is_an_error_of_that_key();
    an_abort_waits_for_the_device(KV_OP_GET);
    an_abort_waits_for_the_device(KV_OP_SET);
    regions_are_checked();
    return 0;
}
