/* What requests mean: sets, reads, deletes, pins, expiry, durability, lists and verification, on the
 * simulated device. */

#include "engine/format.h"
#include "engine_calls.h"

static void a_value_of_any_size_comes_back(void)
{
    static const uint32_t sizes[] = {0,     1,     63,    64,    65,     511,    512,    513,   3583, 3584,
                                     3585,  4095,  4096,  4097,  4608,   4609,   7168,   7169,  8192, 8193,
                                     28672, 28673, 32768, 32769, 65535,  65536,  65537,  131072, 200001,
                                     1u << 20, (1u << 20) + 1, 2500000};
    world *state = calls_create(&calls_options);
    const uint32_t count = sizeof(sizes) / sizeof(sizes[0]);

    for (uint32_t pass = 0; pass < 3; pass++) {
        for (uint32_t i = 0; i < count; i++) {
            char key[16];

            snprintf(key, sizeof(key), "k%u", i);
            if (pass == 0)
                assert(calls_set(state, key, i, sizes[i]) == KV_OK);
            assert(calls_holds(state, key, i, sizes[i]));
        }
        if (pass == 0)
            calls_reopen(state, CALLS_KILL);
        else if (pass == 1)
            calls_reopen(state, CALLS_CLOSE);
    }
    assert(calls_list(state, "k") == count);
    assert(calls_list(state, "k1") == 11);
    world_destroy(state);
}

static void values_and_keys_beyond_the_limits_are_refused(void)
{
    world *state = calls_create(&calls_options);
    kv_item item = calls_item("k", calls_value(1, 64), KV_VALUE_SIZE_LIMIT + 1);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};
    kv_operation *operation;
    char key[KV_KEY_SIZE_LIMIT + 2];

    calls_run(state, &request);
    assert(item.status == KV_TOO_LARGE);
    memset(key, 'k', sizeof(key));
    key[KV_KEY_SIZE_LIMIT] = 0;
    assert(calls_set(state, key, 2, 100) == KV_OK);
    assert(calls_holds(state, key, 2, 100));
    item.key = (uint64_t)key;
    item.key_size = KV_KEY_SIZE_MAX + 1;
    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    item.key_size = 0;
    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    request.operation = 77;
    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    world_destroy(state);
}

static void the_last_of_equal_keys_wins(void)
{
    for (uint32_t durability = KV_DURABILITY_MEMORY; durability <= KV_DURABILITY_SYNC; durability++) {
        kv_engine_options options = calls_options;
        kv_item items[64];
        kv_request request = {.items = items, .count = 64, .operation = KV_OP_SET};
        static uint8_t values[64][5000];
        world *state;

        options.durability = durability;
        state = calls_create(&options);
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t size = i % 3 ? 100 + i : 4900 + i;

            model_value_fill(i, 1, values[i], size);
            items[i] = calls_item(i % 2 ? "odd" : "even", values[i], size);
        }
        calls_run(state, &request);
        for (uint32_t i = 0; i < 64; i++)
            assert(items[i].status == KV_OK);
        assert(calls_holds(state, "even", 62, 162) && calls_holds(state, "odd", 63, 4963));
        assert(calls_flush(state));
        calls_reopen(state, CALLS_POWER);
        assert(calls_holds(state, "even", 62, 162) && calls_holds(state, "odd", 63, 4963));
        world_destroy(state);
    }
}

static void one_of_many_sets_if_absent_succeeds(void)
{
    for (uint32_t durability = KV_DURABILITY_MEMORY; durability <= KV_DURABILITY_SYNC; durability++) {
        kv_engine_options options = calls_options;
        kv_item items[8];
        kv_request requests[8];
        world_client *clients[8];
        uint32_t succeeded = UINT32_MAX;
        world *state;

        options.durability = durability;
        state = calls_create(&options);
        for (uint32_t i = 0; i < 8; i++) {
            static uint8_t values[8][9000];

            model_value_fill(i, 1, values[i], sizeof(values[i]));
            items[i] = calls_item("k", values[i], 9000 - i);
            requests[i] = (kv_request){.items = &items[i], .count = 1, .operation = KV_OP_SET, .if_absent = 1};
            clients[i] = calls_begin(state, &requests[i]);
        }
        for (uint32_t i = 0; i < 8; i++)
            calls_finish(state, clients[i]);
        for (uint32_t i = 0; i < 8; i++) {
            assert(items[i].status == KV_OK || items[i].status == KV_EXISTS);
            assert(items[i].status != KV_OK || succeeded == UINT32_MAX);
            succeeded = items[i].status == KV_OK ? i : succeeded;
        }
        assert(succeeded < 8 && calls_holds(state, "k", succeeded, 9000 - succeeded));
        world_destroy(state);
    }
}

static void a_small_buffer_learns_the_size(void)
{
    world *state = calls_create(&calls_options);
    uint8_t room[100];
    uint32_t size = 0;

    assert(calls_set(state, "k", 1, 101) == KV_OK);
    assert(calls_get(state, "k", room, 100, &size) == KV_BUFFER_TOO_SMALL && size == 101);
    assert(calls_set(state, "empty", 1, 0) == KV_OK);
    assert(calls_get(state, "empty", NULL, 0, &size) == KV_OK && size == 0);
    assert(calls_get(state, "none", room, 100, &size) == KV_NOT_FOUND);
    world_destroy(state);
}

static void keys_are_found_matched_deleted_and_described(void)
{
    world *state = calls_create(&calls_options);
    kv_item items[4] = {calls_item("a", NULL, 0), calls_item("b", NULL, 0), calls_item("x", NULL, 0),
                        calls_item("c", NULL, 0)};
    kv_request request = {.items = items, .count = 4, .operation = KV_OP_MATCH_PREFIX};
    kv_item_stat stat;
    uint32_t size;

    assert(calls_set(state, "a", 1, 10) == KV_OK && calls_set(state, "b", 2, 20) == KV_OK);
    assert(calls_set(state, "c", 3, 5000) == KV_OK);
    calls_run(state, &request);
    assert(request.matched == 2 && items[1].status == KV_OK && items[3].status == KV_NOT_FOUND);
    assert(calls_key(state, KV_OP_EXISTS, "a") == KV_OK && calls_key(state, KV_OP_EXISTS, "x") == KV_NOT_FOUND);
    assert(calls_stat(state, "c", &stat, &size) == KV_OK && size == 5000);
    assert(stat.checksum == kv_checksum(0, calls_value(3, 5000), 5000) && stat.expiry_ms == 0);
    assert(calls_key(state, KV_OP_DELETE, "a") == KV_OK && calls_key(state, KV_OP_DELETE, "a") == KV_NOT_FOUND);
    assert(calls_key(state, KV_OP_EXISTS, "a") == KV_NOT_FOUND);
    calls_reopen(state, CALLS_KILL);
    assert(calls_status(state, "a") == KV_NOT_FOUND && calls_holds(state, "b", 2, 20));
    world_destroy(state);
}

static void a_pin_outlives_sets_and_crashes_but_not_a_delete(void)
{
    world *state = calls_create(&calls_options);
    kv_item_stat stat;
    uint32_t size;

    assert(calls_key(state, KV_OP_PIN, "k") == KV_NOT_FOUND);
    assert(calls_set(state, "k", 1, 10) == KV_OK && calls_key(state, KV_OP_PIN, "k") == KV_OK);
    assert(calls_set(state, "k", 2, 5000) == KV_OK);
    assert(calls_stat(state, "k", &stat, &size) == KV_OK && stat.flags == KV_ITEM_PINNED);
    assert(calls_flush(state));
    calls_reopen(state, CALLS_POWER);
    assert(calls_stat(state, "k", &stat, &size) == KV_OK && stat.flags == KV_ITEM_PINNED);
    assert(calls_statistics(state).pinned_objects == 1);
    assert(calls_key(state, KV_OP_UNPIN, "k") == KV_OK && calls_statistics(state).pinned_objects == 0);
    assert(calls_key(state, KV_OP_PIN, "k") == KV_OK && calls_key(state, KV_OP_DELETE, "k") == KV_OK);
    assert(calls_set(state, "k", 3, 10) == KV_OK);
    assert(calls_stat(state, "k", &stat, &size) == KV_OK && stat.flags == 0);
    world_destroy(state);
}

static void what_has_expired_is_absent(void)
{
    world *state = calls_create(&calls_options);
    kv_item_stat stat;
    uint32_t size;

    assert(calls_put(state, "k", "value", 5, 1000, false) == KV_OK);
    assert(calls_stat(state, "k", &stat, &size) == KV_OK && stat.expiry_ms == WORLD_START_MS + 1000);
    state->now_ms += 999;
    assert(calls_status(state, "k") == KV_OK && calls_list(state, "") == 1);
    assert(calls_put(state, "k", "other", 5, 0, true) == KV_EXISTS);
    state->now_ms += 1;
    assert(calls_status(state, "k") == KV_NOT_FOUND && calls_list(state, "") == 0);
    assert(calls_key(state, KV_OP_EXISTS, "k") == KV_NOT_FOUND);
    assert(calls_put(state, "k", "newer", 5, 0, true) == KV_OK);
    assert(calls_status(state, "k") == KV_OK);
    assert(calls_put(state, "gone", "value", 5, 10, false) == KV_OK);
    state->now_ms += 10;
    while (calls_statistics(state).expirations == 0)
        kv_engine_maintain(state->engine, world_run, state);
    assert(calls_statistics(state).objects == 1);
    world_destroy(state);
}

static void a_clock_set_back_breaks_nothing(void)
{
    kv_engine_options options = calls_options;
    world *state;

    options.ttl_ms = 1000;
    state = calls_create(&options);
    assert(calls_set(state, "k", 1, 100) == KV_OK);
    state->now_ms -= 500000000000u;
    assert(calls_holds(state, "k", 1, 100));
    assert(calls_set(state, "early", 2, 100) == KV_OK);
    kv_engine_maintain(state->engine, world_run, state);
    assert(calls_flush(state));
    calls_reopen(state, CALLS_POWER);
    assert(calls_holds(state, "k", 1, 100));
    state->now_ms = WORLD_START_MS + 1000;
    assert(calls_status(state, "k") == KV_NOT_FOUND && calls_status(state, "early") == KV_NOT_FOUND);
    world_destroy(state);
}

static void memory_is_visible_at_once_and_durable_after_a_flush(void)
{
    kv_engine_options options = calls_options;
    static uint8_t value[9000];
    kv_item item = calls_item("k", value, sizeof(value));
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};
    world_client *client;
    world *state;

    options.durability = KV_DURABILITY_MEMORY;
    state = calls_create(&options);
    assert(calls_set(state, "safe", 1, 5000) == KV_OK && calls_flush(state));
    model_value_fill(9, 1, value, sizeof(value));
    client = calls_begin(state, &request);
    world_step(state, client);
    assert(client->answered && item.status == KV_OK && !client->finished);
    assert(calls_holds(state, "k", 9, sizeof(value)));
    calls_reopen(state, CALLS_KILL);
    assert(calls_status(state, "k") == KV_NOT_FOUND && calls_holds(state, "safe", 1, 5000));
    world_destroy(state);
}

/* What a flush answered for was replaced before it was written: then the flush covers what replaced it. */
static void a_flush_covers_what_replaced_its_values(void)
{
    kv_engine_options options = calls_options;
    static uint8_t values[2][9000];
    kv_item items[2];
    kv_request requests[2];
    kv_request flush = {.operation = KV_OP_FLUSH};
    world_client *clients[2];
    world_client *flusher = NULL;
    world *state;

    options.durability = KV_DURABILITY_MEMORY;
    state = calls_create(&options);
    for (uint32_t i = 0; i < 2; i++) {
        model_value_fill(6 + i, 1, values[i], sizeof(values[i]));
        items[i] = calls_item("k", values[i], sizeof(values[i]));
        requests[i] = (kv_request){.items = &items[i], .count = 1, .operation = KV_OP_SET};
        clients[i] = calls_begin(state, &requests[i]);
        world_step(state, clients[i]);
        assert(clients[i]->answered);
        if (i == 0) {
            flusher = calls_begin(state, &flush);
            world_step(state, flusher);
        }
    }
    calls_finish(state, flusher);
    for (uint32_t i = 0; i < 2; i++)
        if (clients[i]->finished)
            world_client_free(clients[i]);
    calls_reopen(state, CALLS_POWER);
    assert(calls_holds(state, "k", 7, sizeof(values[1])));
    world_destroy(state);
}

/* Answered before it is written: then replaced, or deleted, and only then written. */
static void what_is_replaced_before_it_is_written_never_comes_back(void)
{
    for (uint32_t deletes = 0; deletes < 2; deletes++) {
        kv_engine_options options = calls_options;
        static uint8_t values[2][9000];
        kv_item items[2];
        kv_request requests[2];
        world_client *clients[2];
        world *state;

        options.durability = KV_DURABILITY_MEMORY;
        state = calls_create(&options);
        assert(calls_set(state, "k", 5, 6000) == KV_OK);
        for (uint32_t i = 0; i < 2; i++) {
            model_value_fill(6 + i, 1, values[i], sizeof(values[i]));
            items[i] = calls_item("k", values[i], sizeof(values[i]));
            requests[i] = (kv_request){.items = &items[i], .count = 1, .operation = KV_OP_SET};
            clients[i] = calls_begin(state, &requests[i]);
            world_step(state, clients[i]);
            assert(clients[i]->answered);
        }
        if (deletes)
            assert(calls_key(state, KV_OP_DELETE, "k") == KV_OK);
        assert(calls_flush(state));
        for (uint32_t i = 0; i < 2; i++)
            calls_finish(state, clients[i]);
        assert(deletes ? calls_status(state, "k") == KV_NOT_FOUND : calls_holds(state, "k", 7, 9000));
        calls_reopen(state, CALLS_POWER);
        assert(deletes ? calls_status(state, "k") == KV_NOT_FOUND : calls_holds(state, "k", 7, 9000));
        world_destroy(state);
    }
}

/* A set is aborted after each number of steps and completions; the store goes on, and loses no space. */
static void an_abort_at_any_stage_leaves_the_store_whole(void)
{
    for (uint32_t stage = 0; stage < 24; stage++) {
        kv_item items[3];
        kv_request request = {.items = items, .count = 3, .operation = stage % 2 ? KV_OP_SET : KV_OP_GET};
        static uint8_t values[3][70000];
        static const char *const keys[3] = {"a", "b", "c"};
        world *state = calls_create(&calls_options);
        uint64_t used = calls_statistics(state).space_used;
        world_client *client;

        for (uint32_t i = 0; i < 3; i++) {
            model_value_fill(i, 1, values[i], sizeof(values[i]));
            items[i] = calls_item(keys[i], values[i], i == 0 ? 100 : 70000);
            if (stage % 2 == 0)
                assert(calls_set(state, keys[i], i, i == 0 ? 100 : 60000) == KV_OK);
        }
        client = calls_begin(state, &request);
        for (uint32_t i = 0; i < stage / 2 && !client->finished; i++)
            world_move(state);
        if (!client->finished)
            kv_operation_abort(client->operation, KV_CANCELLED);
        calls_finish(state, client);
        for (uint32_t i = 0; i < 3; i++) {
            assert(items[i].status == KV_OK || items[i].status == KV_CANCELLED);
            if (items[i].status == KV_OK && stage % 2)
                assert(calls_holds(state, keys[i], i, i == 0 ? 100 : 70000));
            calls_key(state, KV_OP_DELETE, keys[i]);
        }
        assert(calls_flush(state));
        assert(calls_statistics(state).space_used == used && calls_statistics(state).in_flight == 0);
        world_destroy(state);
    }
}

static void a_read_only_store_serves_and_writes_nothing(void)
{
    kv_engine_options options = calls_options;
    char message[KV_MESSAGE_SIZE];
    uint64_t writes;
    world *state;

    options.durability = KV_DURABILITY_SYNC;
    state = calls_create(&options);
    assert(calls_set(state, "k", 1, 5000) == KV_OK);
    state->options.durability = KV_DURABILITY_DISK;
    calls_reopen(state, CALLS_CLOSE);
    assert(calls_set(state, "late", 2, 500) == KV_OK); /* not flushed */
    state->options.durability = KV_DURABILITY_SYNC;
    state->options.open_mode = KV_OPEN_READ_ONLY;
    calls_stop(state, CALLS_KILL);
    writes = kv_sim_events(state->sim);
    assert(calls_try_open(state, message) == 0);
    assert(calls_holds(state, "k", 1, 5000) && calls_holds(state, "late", 2, 500));
    assert(calls_set(state, "k", 3, 10) == KV_DENIED && calls_key(state, KV_OP_DELETE, "k") == KV_DENIED);
    assert(calls_key(state, KV_OP_PIN, "k") == KV_DENIED && calls_flush(state));
    assert(calls_set(state, "big", 3, 9000) == KV_DENIED);
    kv_engine_maintain(state->engine, world_run, state);
    assert(kv_engine_compact(state->engine, 100, world_run, state) == -EROFS);
    assert(kv_engine_checkpoint(state->engine) == -EROFS);
    calls_stop(state, CALLS_CLOSE);
    assert(kv_sim_events(state->sim) == writes);
    state->options.open_mode = KV_OPEN_NORMAL;
    assert(calls_try_open(state, message) == 0);
    assert(calls_holds(state, "k", 1, 5000) && calls_holds(state, "late", 2, 500));
    world_destroy(state);
}

static void an_empty_device_opens_only_to_make_a_store(void)
{
    kv_sim_options sim = {.seed = 3, .space_max = 64u << 20};
    char message[KV_MESSAGE_SIZE] = "";
    world *state = world_create(3, &calls_options, &sim);

    state->options.open_mode = KV_OPEN_EXISTING;
    assert(calls_try_open(state, message) == -ENOENT && message[0]);
    state->device->operations->close(state->device);
    state->options.open_mode = KV_OPEN_NORMAL;
    assert(calls_try_open(state, message) == 0);
    world_destroy(state);
}

static void lists_and_verification_see_every_key_once(void)
{
    kv_engine_options options = calls_options;
    uint64_t objects = 0;
    kv_store_statistics statistics;
    world *state;

    options.capacity = 32u << 20; /* a small value set by itself takes a page of a pack */
    state = calls_create(&options);
    for (uint32_t i = 0; i < 3000; i++) {
        char key[32];

        snprintf(key, sizeof(key), "%s-%u", i % 2 ? "odd" : "even", i);
        assert(calls_set(state, key, i, i % 300) == KV_OK);
    }
    assert(calls_list(state, "") == 3000 && calls_list(state, "odd-") == 1500);
    assert(calls_verify(state, &objects) == 0 && objects == 3000);
    statistics = calls_statistics(state);
    assert(statistics.objects == 3000 && statistics.value_size == 3000 / 300 * (299 * 300 / 2));
    assert(statistics.sets == 3000 && statistics.bytes_written == statistics.value_size);
    assert(statistics.space_used >= statistics.value_size && statistics.in_flight == 0);
    assert(statistics.space_used + statistics.space_free <= statistics.capacity);
    assert(statistics.sequence == 3001 && statistics.sequence_durable == 3001);
    calls_reopen(state, CALLS_CLOSE);
    assert(calls_statistics(state).value_size == statistics.value_size);
    assert(calls_statistics(state).space_used == statistics.space_used);
    world_destroy(state);
}

int main(void)
{
    a_value_of_any_size_comes_back();
    values_and_keys_beyond_the_limits_are_refused();
    the_last_of_equal_keys_wins();
    one_of_many_sets_if_absent_succeeds();
    a_small_buffer_learns_the_size();
    keys_are_found_matched_deleted_and_described();
    a_pin_outlives_sets_and_crashes_but_not_a_delete();
    what_has_expired_is_absent();
    a_clock_set_back_breaks_nothing();
    memory_is_visible_at_once_and_durable_after_a_flush();
    a_flush_covers_what_replaced_its_values();
    what_is_replaced_before_it_is_written_never_comes_back();
    an_abort_at_any_stage_leaves_the_store_whole();
    a_read_only_store_serves_and_writes_nothing();
    an_empty_device_opens_only_to_make_a_store();
    lists_and_verification_see_every_key_once();
    return 0;
}
