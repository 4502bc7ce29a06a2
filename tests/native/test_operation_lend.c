/* Values that are lent: named once, verified once, unchanged until they are returned, never more than an
 * operation may hold; and no end of an operation before the last one is back. */

#include "engine_calls.h"

#define BATCH 24u
#define SLABS_START (1u << 20)
#define TIER_SMALL (1u << 20)

/* A lending get, and what has become of it. */
typedef struct lending {
    kv_item items[BATCH];
    kv_item_stat stats[BATCH];
    kv_request request;
    char names[BATCH][16];
    uint32_t order[BATCH];
    uint32_t named;
    bool lent[BATCH];
    uint32_t lent_count;
    world *state;
    world_client *client;
} lending;

static const uint32_t sizes[] = {0, 60, 3000, 4096, 9000, 40000, 100, 131072, 300000};

static uint32_t size_of(uint32_t i)
{
    return sizes[i % (sizeof(sizes) / sizeof(sizes[0]))];
}

static lending *lending_begin(world *state, uint32_t count)
{
    lending *batch = calloc(1, sizeof(*batch));

    assert(batch && count <= BATCH);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(batch->names[i], sizeof(batch->names[i]), "k%u", i);
        batch->items[i] = calls_item(batch->names[i], NULL, CALLS_VALUE_MAX);
    }
    batch->request = (kv_request){.items = batch->items, .stats = batch->stats, .count = count,
                                  .operation = KV_OP_LEND};
    batch->state = state;
    batch->client = calls_begin(state, &batch->request);
    return batch;
}

/* Name what there is; values are checked here. */
static void lending_take(lending *batch)
{
    int64_t next;

    while (!batch->client->finished && (next = kv_operation_next(batch->client->operation)) >= 0) {
        uint32_t i = (uint32_t)next;
        const kv_item *item = &batch->items[i];

        batch->order[batch->named++] = i;
        if (item->status != KV_OK || item->result_size == 0)
            continue;
        assert(!batch->lent[i]);
        batch->lent[i] = true;
        batch->lent_count++;
        assert(kv_checksum(0, calls_value(i, item->result_size), item->result_size) ==
               batch->stats[i].checksum);
        assert(world_lent_is(batch->client->operation, i, calls_value(i, item->result_size),
                             item->result_size));
    }
}

/* Let others and this one go on until it waits for what only its caller can do. */
static void lending_go(lending *batch)
{
    do
        lending_take(batch);
    while (world_move(batch->state));
    lending_take(batch);
}

static void lending_return(lending *batch, uint32_t i)
{
    assert(batch->lent[i]);
    assert(world_lent_is(batch->client->operation, i, calls_value(i, batch->items[i].result_size),
                         batch->items[i].result_size));
    batch->lent[i] = false;
    batch->lent_count--;
    kv_operation_return(batch->client->operation, i);
}

static void lending_return_all(lending *batch)
{
    for (uint32_t i = 0; i < BATCH; i++)
        if (batch->lent[i])
            lending_return(batch, i);
}

/* To the end; then it is gone. */
static void lending_end(lending *batch)
{
    while (!batch->client->finished) {
        lending_go(batch);
        lending_return_all(batch);
    }
    assert(batch->client->answered && batch->named == batch->request.count);
    world_client_free(batch->client);
    free(batch);
}

static void fill_store(world *state, uint32_t count)
{
    char name[16];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "k%u", i);
        assert(calls_set(state, name, i, size_of(i)) == KV_OK);
    }
}

static void clear_store(world *state, uint32_t count)
{
    char name[16];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "k%u", i);
        assert(calls_key(state, KV_OP_DELETE, name) == KV_OK);
    }
    assert(calls_statistics(state).memory_used == 0);
}

static void requests_without_stats_or_with_too_long_keys_are_refused(void)
{
    world *state = calls_create(&calls_options);
    static char key[1200];
    kv_item item = {.key = (uint64_t)key, .key_size = 1152};
    kv_item_stat stat;
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_LEND};
    kv_operation *operation;
    world_client *client;

    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    request.stats = &stat;
    item.key_size = 1153;
    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    item.key_size = 1152;
    client = calls_begin(state, &request);
    world_step(state, client);
    assert(kv_operation_next(client->operation) == 0 && item.status == KV_NOT_FOUND);
    calls_finish(state, client);
    world_destroy(state);
}

static void what_memory_holds_is_lent_in_one_step(void)
{
    world *state = calls_create(&calls_options);
    kv_store_statistics before;
    lending *batch;

    fill_store(state, 9);
    before = calls_statistics(state);
    batch = lending_begin(state, 9);
    world_step(state, batch->client);
    lending_take(batch);
    assert(batch->named == 9 && batch->lent_count == 8 && !batch->client->answered);
    for (uint32_t i = 0; i < 9; i++)
        assert(batch->order[i] == i && batch->stats[i].version > 0);
    world_step(state, batch->client);
    assert(batch->client->answered && !batch->client->finished);
    lending_return_all(batch);
    world_step(state, batch->client);
    assert(batch->client->finished);
    lending_end(batch);
    assert(calls_statistics(state).device_reads == before.device_reads);
    assert(calls_statistics(state).get_hits == before.get_hits + 9);
    assert(calls_statistics(state).get_memory_hits == before.get_memory_hits + 8);
    clear_store(state, 9);
    world_destroy(state);
}

static void what_the_device_holds_is_read_and_then_kept(void)
{
    world *state = calls_create(&calls_options);

    fill_store(state, 18);
    calls_reopen(state, CALLS_CLOSE);
    for (uint32_t turn = 0; turn < 2; turn++) {
        uint64_t reads = calls_statistics(state).device_reads;

        lending_end(lending_begin(state, 18));
        assert((calls_statistics(state).device_reads > reads) == (turn == 0));
    }
    clear_store(state, 18);
    world_destroy(state);
}

static void each_item_has_its_own_status(void)
{
    world *state = calls_create(&calls_options);
    lending *batch;

    fill_store(state, 9);
    assert(calls_key(state, KV_OP_DELETE, "k2") == KV_OK);
    assert(calls_put(state, "k3", calls_value(3, 4096), 4096, 50, false) == KV_OK);
    state->now_ms += 50;
    batch = lending_begin(state, 9);
    batch->items[4].value_size = 8999;
    batch->items[0].value_size = 0;
    lending_go(batch);
    assert(batch->named == 9 && batch->lent_count == 5);
    assert(batch->items[2].status == KV_NOT_FOUND && batch->items[3].status == KV_NOT_FOUND);
    assert(batch->items[4].status == KV_BUFFER_TOO_SMALL && batch->items[4].result_size == 9000);
    assert(batch->items[0].status == KV_OK && batch->items[0].result_size == 0);
    lending_end(batch);
    world_destroy(state);
}

static void lent_bytes_stay_whatever_becomes_of_their_keys(void)
{
    kv_engine_options options = calls_options;
    world *state;
    lending *batch;

    options.memory_size = 4u << 20;
    state = calls_create(&options);
    fill_store(state, 7);
    batch = lending_begin(state, 7);
    lending_go(batch);
    assert(batch->lent_count == 6);
    assert(calls_set(state, "k1", 50, 60) == KV_OK && calls_set(state, "k4", 51, 70000) == KV_OK);
    assert(calls_key(state, KV_OP_DELETE, "k2") == KV_OK && calls_key(state, KV_OP_DELETE, "k5") == KV_OK);
    for (uint32_t i = 0; i < 60; i++) { /* more than the tier holds */
        char name[16];

        snprintf(name, sizeof(name), "other%u", i % 6);
        assert(calls_set(state, name, i, 400000) == KV_OK);
    }
    lending_end(batch);
    assert(calls_holds(state, "k1", 50, 60) && calls_holds(state, "k4", 51, 70000));
    assert(calls_status(state, "k2") == KV_NOT_FOUND);
    world_destroy(state);
}

static void readers_of_a_fill_share_it(void)
{
    world *state = calls_create(&calls_options);
    static uint8_t value[16384];
    kv_item item = calls_item("k0", value, sizeof(value));
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_GET};
    world_client *reader;
    lending *batches[2];
    uint64_t reads;

    assert(calls_set(state, "k0", 0, 16384) == KV_OK);
    calls_reopen(state, CALLS_CLOSE);
    reads = calls_statistics(state).device_reads;
    for (uint32_t n = 0; n < 2; n++) {
        batches[n] = lending_begin(state, 1);
        world_step(state, batches[n]->client);
    }
    reader = calls_begin(state, &request);
    calls_finish(state, reader);
    assert(item.status == KV_OK && memcmp(value, calls_value(0, 16384), 16384) == 0);
    for (uint32_t n = 0; n < 2; n++)
        lending_go(batches[n]);
    assert(batches[0]->lent_count == 1 && batches[1]->lent_count == 1);
    assert(calls_statistics(state).device_reads == reads + 1);
    lending_end(batches[0]);
    lending_end(batches[1]);
    world_destroy(state);
}

static void no_more_is_lent_than_an_operation_may_hold(void)
{
    kv_engine_options options = calls_options;
    world *state;
    lending *batch;

    options.memory_size = TIER_SMALL;
    state = calls_create(&options);
    fill_store(state, 8);
    for (uint32_t turn = 0; turn < 2; turn++) {
        uint32_t rounds = 0;

        batch = lending_begin(state, 24);
        for (uint32_t i = 0; i < 24; i++) {
            snprintf(batch->names[i], sizeof(batch->names[i]), "k%u", i % 8);
            batch->items[i].key_size = 2;
        }
        while (!batch->client->finished) {
            uint64_t held = 0;
            int64_t i;

            while (!batch->client->finished && (i = kv_operation_next(batch->client->operation)) >= 0) {
                uint32_t size = size_of((uint32_t)i % 8);

                assert(batch->items[i].status == KV_OK && batch->items[i].result_size == size);
                batch->lent[i] = size > 0;
            }
            if (world_move(state))
                continue;
            for (uint32_t n = 0; n < 24; n++)
                held += batch->lent[n] ? batch->items[n].result_size : 0;
            assert(held <= TIER_SMALL / 4 + 131072);
            for (uint32_t n = 0; n < 24; n++) {
                if (!batch->lent[n])
                    continue;
                assert(world_lent_is(batch->client->operation, n, calls_value(n % 8, size_of(n % 8)),
                                     size_of(n % 8)));
                kv_operation_return(batch->client->operation, n);
                batch->lent[n] = false;
            }
            rounds++;
        }
        assert(rounds >= 2);
        world_client_free(batch->client);
        free(batch);
        calls_reopen(state, CALLS_CLOSE);
    }
    world_destroy(state);
}

/* Aborted after each number of moves, with and without something lent. */
static void an_abort_ends_what_was_not_named_and_nothing_else(void)
{
    for (uint32_t stage = 0; stage < 60; stage++) {
        world *state = calls_create(&calls_options);
        lending *batch;
        uint32_t named;

        fill_store(state, 18);
        calls_reopen(state, CALLS_CLOSE);
        batch = lending_begin(state, 18);
        for (uint32_t n = 0; n < stage && !batch->client->finished && world_move(state); n++)
            if (stage % 3 > 0)
                lending_take(batch);
        if (batch->client->finished || batch->client->answered) {
            lending_end(batch);
            world_destroy(state);
            continue;
        }
        named = batch->named;
        kv_operation_abort(batch->client->operation, KV_CANCELLED);
        world_step(state, batch->client);
        lending_go(batch);
        assert(batch->named == 18 && batch->client->answered);
        assert(batch->client->finished == (batch->lent_count == 0));
        for (uint32_t n = 0; n < 18; n++)
            assert(named == 18 || (batch->items[batch->order[n]].status == KV_OK) == (n < named));
        lending_end(batch);
        fill_store(state, 18);
        lending_end(lending_begin(state, 18));
        clear_store(state, 18);
        world_destroy(state);
    }
}

static void a_device_error_is_its_keys_error(void)
{
    world *state = calls_create(&calls_options);
    uint32_t failed = 0;
    lending *batch;

    fill_store(state, 6);
    calls_reopen(state, CALLS_CLOSE);
    kv_sim_fail(state->sim, KV_IO_READ, KV_FILE_SLABS, -EIO, 1);
    batch = lending_begin(state, 6);
    lending_go(batch);
    assert(batch->named == 6 && batch->lent_count == 4);
    for (uint32_t i = 0; i < 6; i++)
        failed += batch->items[i].status == KV_IO_ERROR;
    assert(failed == 1);
    lending_end(batch);
    kv_sim_fail(state->sim, KV_IO_READ, KV_FILE_SLABS, -EIO, 0);
    lending_end(lending_begin(state, 6));
    clear_store(state, 6);
    world_destroy(state);
}

/* The first value of the store, alone in its slab, rots; also while it is read. */
static void a_value_is_read_twice_before_it_counts_as_corrupt(void)
{
    static const uint32_t tried[] = {16384, 100};

    for (uint32_t n = 0; n < 2; n++) {
        world *state = calls_create(&calls_options);
        lending *batch;
        uint64_t reads;

        assert(calls_set(state, "k0", 0, tried[n]) == KV_OK && calls_set(state, "k1", 1, 9000) == KV_OK);
        calls_reopen(state, CALLS_CLOSE);
        kv_sim_flip(state->sim, KV_FILE_SLABS, SLABS_START + 50, 4);
        reads = calls_statistics(state).device_reads;
        batch = lending_begin(state, 2);
        lending_go(batch);
        assert(batch->items[0].status == KV_CORRUPT && batch->items[1].status == KV_OK);
        assert(batch->lent_count == 1 && calls_statistics(state).corrupt_values == 1);
        assert(calls_statistics(state).device_reads == reads + 3);
        lending_end(batch);
        batch = lending_begin(state, 1);
        world_step(state, batch->client);
        assert(kv_sim_pump(state->sim, 1) == 1); /* what was read is wrong, what is there is right */
        kv_sim_flip(state->sim, KV_FILE_SLABS, SLABS_START + 50, 4);
        lending_go(batch);
        assert(batch->items[0].status == KV_OK && batch->lent_count == 1);
        lending_end(batch);
        world_destroy(state);
    }
}

static void an_offline_engine_lends_nothing_new(void)
{
    world *state = calls_create(&calls_options);
    lending *batch;

    fill_store(state, 6);
    batch = lending_begin(state, 6);
    lending_go(batch);
    kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_JOURNAL_1, -EIO, 1);
    assert(calls_set(state, "x", 1, 10) == KV_UNAVAILABLE);
    lending_end(batch); /* what was lent before is as it was */
    batch = lending_begin(state, 6);
    lending_go(batch);
    assert(batch->named == 6 && batch->lent_count == 0 && batch->items[3].status == KV_UNAVAILABLE);
    lending_end(batch);
    world_destroy(state);
}

/* A newer value of the key is on its way: it is lent when a crash could not take it back any more. */
static void a_value_is_not_lent_before_it_is_durable(void)
{
    world *state = calls_create(&calls_options);
    static uint8_t value[9000];
    kv_item item = calls_item("k0", value, sizeof(value));
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};
    world_client *writer;
    lending *batch;

    model_value_fill(0, 1, value, sizeof(value));
    writer = calls_begin(state, &request);
    world_step(state, writer);
    assert(kv_sim_pump(state->sim, 1) == 1 && !writer->answered); /* appended, not written */
    batch = lending_begin(state, 1);
    world_step(state, batch->client);
    assert(kv_operation_next(batch->client->operation) == -1);
    lending_go(batch);
    assert(writer->answered && batch->lent_count == 1);
    lending_end(batch);
    calls_finish(state, writer);
    world_destroy(state);
}

int main(void)
{
    requests_without_stats_or_with_too_long_keys_are_refused();
    what_memory_holds_is_lent_in_one_step();
    what_the_device_holds_is_read_and_then_kept();
    each_item_has_its_own_status();
    lent_bytes_stay_whatever_becomes_of_their_keys();
    readers_of_a_fill_share_it();
    no_more_is_lent_than_an_operation_may_hold();
    an_abort_ends_what_was_not_named_and_nothing_else();
    a_device_error_is_its_keys_error();
    a_value_is_read_twice_before_it_counts_as_corrupt();
    an_offline_engine_lends_nothing_new();
    a_value_is_not_lent_before_it_is_durable();
    return 0;
}
