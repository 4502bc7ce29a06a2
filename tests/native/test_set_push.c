/* Values that are received in pieces: set as by a plain set, whatever the pieces; memory only for what comes
 * next; a value that is not what was promised is not set; an abort at any byte leaves nothing behind. */

#include "engine_receive.h"

#define TIER_SMALL (1u << 20)

static void values_are_set_whatever_the_pieces(void)
{
    static const uint32_t pieces[] = {UINT32_MAX, 64, 4096, 1000, 77777};

    for (uint32_t durability = 0; durability < 3; durability++)
        for (uint32_t n = 0; n < sizeof(pieces) / sizeof(pieces[0]); n++) {
            kv_engine_options options = calls_options;
            receiving *batch;
            world *state;

            options.durability = durability;
            state = calls_create(&options);
            batch = receiving_start(state, 20, n * 100);
            receiving_push_all(batch, pieces[n]);
            while (!batch->client->finished)
                assert(world_move(state));
            for (uint32_t i = 0; i < 20; i++)
                assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
            assert(calls_flush(state));
            calls_reopen(state, CALLS_POWER);
            for (uint32_t i = 0; i < 20; i++)
                assert(receiving_holds(batch, i));
            receiving_end(batch);
            receiving_nothing_leaks(state, 20);
            world_destroy(state);
        }
}

/* Of a run of packed values the first, one in the middle and the last; of others one; an empty one. */
static void a_value_that_does_not_match_is_not_set(void)
{
    for (uint32_t early = 0; early < 2; early++) {
        kv_engine_options options = calls_options;
        receiving *batch;
        world *state;

        options.durability = early ? KV_DURABILITY_MEMORY : KV_DURABILITY_DISK;
        state = calls_create(&options);
        assert(calls_set(state, "k0", 7, 500) == KV_OK && calls_set(state, "k6", 8, 600) == KV_OK);
        batch = receiving_create(state, 10, 50);
        for (uint32_t i = 0; i < 10; i++)
            batch->stats[i].checksum ^= i == 0 || i == 2 || i == 4 || i == 6 || i == 9;
        receiving_begin(batch);
        receiving_push_all(batch, 1000);
        while (!batch->client->finished)
            assert(world_move(state));
        for (uint32_t i = 0; i < 10; i++) {
            bool corrupt = i == 0 || i == 2 || i == 4 || i == 6 || i == 9;

            assert(batch->items[i].status == (corrupt ? KV_CORRUPT : KV_OK));
            assert(corrupt || receiving_holds(batch, i));
        }
        assert(calls_holds(state, "k0", 7, 500) && calls_holds(state, "k6", 8, 600));
        assert(calls_status(state, "k2") == KV_NOT_FOUND && calls_status(state, "k9") == KV_NOT_FOUND);
        assert(calls_flush(state));
        calls_reopen(state, CALLS_KILL);
        assert(calls_holds(state, "k0", 7, 500) && receiving_holds(batch, 1) && receiving_holds(batch, 8));
        receiving_end(batch);
        receiving_nothing_leaks(state, 10);
        world_destroy(state);
    }
}

static void a_run_whose_values_are_all_wrong_leaves_nothing(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_create(state, 2, 0);

    batch->stats[0].checksum++;
    batch->stats[1].checksum++;
    receiving_begin(batch);
    receiving_push_all(batch, 30);
    receiving_end(batch);
    receiving_nothing_leaks(state, 2);
    world_destroy(state);
}

static void a_batch_larger_than_memory_comes_through(void)
{
    kv_engine_options options = calls_options;
    uint32_t refused = 0;
    receiving *batch;
    world *state;

    options.memory_size = TIER_SMALL;
    options.capacity = 32u << 20;
    state = calls_create(&options);
    batch = receiving_create(state, 24, 0);
    for (uint32_t i = 0; i < 24; i++)
        receiving_resize(batch, i, 200000 + i);
    receiving_begin(batch);
    while (!receiving_came(batch)) {
        if (receiving_push(batch, 10000))
            continue;
        refused++;
        while (!receiving_push(batch, 10000)) /* `ready` tells when it makes sense */
            assert(world_move(state));
    }
    assert(refused > 5);
    while (!batch->client->finished)
        assert(world_move(state));
    for (uint32_t i = 0; i < 24; i++)
        assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
    receiving_end(batch);
    receiving_nothing_leaks(state, 24);
    world_destroy(state);
}

/* A peer that sends nothing: its set holds no more than what comes next. */
static void no_more_memory_is_held_than_what_comes_next(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_create(state, 24, 0);

    for (uint32_t i = 0; i < 24; i++)
        receiving_resize(batch, i, 300000);
    receiving_begin(batch);
    while (world_move(state))
        continue;
    assert(calls_statistics(state).memory_used <= (1u << 20) + 2 * 300000);
    receiving_push_all(batch, UINT32_MAX);
    receiving_end(batch);
    world_destroy(state);
}

static void bytes_of_refused_items_are_swallowed(void)
{
    kv_engine_options options = calls_options;
    receiving *batch;
    world *state;

    options.objects_max = 3;
    state = calls_create(&options);
    assert(calls_set(state, "k0", 1, 100) == KV_OK);
    batch = receiving_create(state, 6, 40);
    batch->request.if_absent = 1;
    receiving_resize(batch, 1, 5000);
    receiving_resize(batch, 2, KV_VALUE_SIZE_LIMIT + 1);
    receiving_resize(batch, 3, 3600000); /* more than the tier may hold */
    receiving_begin(batch);
    receiving_push_all(batch, 700000);
    while (!batch->client->finished)
        assert(world_move(state));
    assert(batch->items[0].status == KV_EXISTS && batch->items[1].status == KV_OK);
    assert(batch->items[2].status == KV_TOO_LARGE && batch->items[3].status == KV_TOO_LARGE);
    assert(batch->items[4].status == KV_OK && batch->items[5].status == KV_QUOTA);
    assert(calls_holds(state, "k0", 1, 100) && receiving_holds(batch, 1) && receiving_holds(batch, 4));
    receiving_end(batch);
    receiving_nothing_leaks(state, 6);
    world_destroy(state);
}

static void a_full_store_refuses_and_goes_on(void)
{
    kv_engine_options options = calls_options;
    uint32_t refused = 0;
    receiving *batch;
    world *state;

    options.capacity = 2u << 20;
    state = calls_create(&options);
    batch = receiving_create(state, 24, 0);
    for (uint32_t i = 0; i < 24; i++)
        receiving_resize(batch, i, i % 2 ? 400000 : 100);
    receiving_begin(batch);
    receiving_push_all(batch, 100000);
    while (!batch->client->finished)
        assert(world_move(state));
    for (uint32_t i = 0; i < 24; i++) {
        assert(batch->items[i].status == KV_OK ? receiving_holds(batch, i) : batch->items[i].status == KV_NO_SPACE);
        refused += batch->items[i].status == KV_NO_SPACE;
    }
    assert(refused > 5 && refused < 13);
    receiving_end(batch);
    receiving_nothing_leaks(state, 24);
    world_destroy(state);
}

static void the_last_of_equal_keys_wins_and_expires(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_create(state, 8, 0);

    for (uint32_t i = 0; i < 8; i++)
        snprintf(batch->names[i], sizeof(batch->names[i]), "k0");
    batch->request.ttl_ms = 1000;
    receiving_begin(batch);
    receiving_push_all(batch, 1000);
    while (!batch->client->finished)
        assert(world_move(state));
    assert(calls_holds(state, "k0", 7, 100));
    state->now_ms += 1000;
    assert(calls_status(state, "k0") == KV_NOT_FOUND);
    receiving_end(batch);
    world_destroy(state);
}

/* After each number of moves: pushes of some bytes, and whatever else happens in the store. */
static void an_abort_at_any_stage_leaves_the_store_whole(void)
{
    for (uint32_t stage = 0; stage < 150; stage++) {
        kv_engine_options options = calls_options;
        kv_status status = stage % 2 ? KV_CANCELLED : KV_TIMEOUT;
        receiving *batch;
        uint32_t came;
        world *state;

        options.durability = stage % 3 ? KV_DURABILITY_DISK : KV_DURABILITY_MEMORY;
        options.memory_size = stage % 4 ? 0 : TIER_SMALL;
        state = calls_create(&options);
        assert(calls_set(state, "k3", 99, 4000) == KV_OK);
        batch = receiving_start(state, 10, 0);
        for (uint32_t n = 0; n < stage && !receiving_came(batch); n++)
            if (n % 3 > 0 || !receiving_push(batch, 20000))
                world_move(state);
        came = batch->pushing;
        if (!batch->client->finished) {
            kv_operation_abort(batch->client->operation, status);
            receiving_push_all(batch, 50000); /* the peer does not know yet */
        }
        while (!batch->client->finished)
            assert(world_move(state));
        for (uint32_t i = 0; i < 10; i++) {
            assert(batch->items[i].status == (int32_t)status || batch->items[i].status == KV_OK);
            if (i < came)
                assert(batch->items[i].status != KV_OK || receiving_holds(batch, i));
            else if (i == 3)
                assert(batch->items[i].status != KV_OK || receiving_holds(batch, i));
        }
        assert(receiving_holds(batch, 3) || calls_holds(state, "k3", 99, 4000));
        receiving_end(batch);
        assert(calls_set(state, "k5", 1, 200000) == KV_OK && calls_holds(state, "k5", 1, 200000));
        receiving_nothing_leaks(state, 10);
        world_destroy(state);
    }
}

static void a_value_that_is_not_complete_is_never_set(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_start(state, 1, 0);

    assert(receiving_push(batch, 59));
    while (world_move(state))
        continue;
    kv_operation_abort(batch->client->operation, KV_CANCELLED);
    receiving_end(batch);
    assert(calls_status(state, "k0") == KV_NOT_FOUND);
    receiving_nothing_leaks(state, 1);
    world_destroy(state);
}

static void memory_answers_before_the_device_holds_it(void)
{
    kv_engine_options options = calls_options;
    receiving *batch;
    world *state;

    options.durability = KV_DURABILITY_MEMORY;
    state = calls_create(&options);
    batch = receiving_start(state, 10, 0);
    receiving_push_all(batch, UINT32_MAX);
    assert(batch->client->answered && !batch->client->finished);
    assert(calls_statistics(state).sequence_durable < 10);
    for (uint32_t i = 0; i < 10; i++)
        assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
    receiving_end(batch);
    world_destroy(state);
}

static void a_flush_waits_for_no_peer(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        kv_engine_options options = calls_options;
        receiving *batch;
        world *state;

        options.durability = durability;
        state = calls_create(&options);
        batch = receiving_start(state, 2, 0);
        assert(receiving_push(batch, UINT32_MAX) && receiving_push(batch, 99));
        assert(calls_set(state, "other", 1, 100) == KV_OK && calls_flush(state));
        receiving_push_all(batch, 1);
        receiving_end(batch);
        assert(calls_status(state, "k1") == KV_OK);
        world_destroy(state);
    }
}

static void what_has_come_is_written_while_more_comes(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_create(state, 8, 0);
    uint64_t writes;

    for (uint32_t i = 0; i < 8; i++)
        receiving_resize(batch, i, 300000);
    receiving_begin(batch);
    writes = calls_statistics(state).device_write_bytes;
    while (batch->pushing < 4)
        assert(receiving_push(batch, UINT32_MAX) || world_move(state));
    assert(calls_statistics(state).device_write_bytes >= writes + (1u << 20));
    receiving_push_all(batch, UINT32_MAX);
    receiving_end(batch);
    receiving_nothing_leaks(state, 8);
    world_destroy(state);
}

static void a_failed_write_is_its_keys_error(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_start(state, 9, 0);
    uint32_t failed = 0;

    kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_SLABS, -EIO, 1);
    receiving_push_all(batch, UINT32_MAX);
    while (!batch->client->finished)
        assert(world_move(state));
    for (uint32_t i = 0; i < 9; i++) {
        failed += batch->items[i].status == KV_IO_ERROR;
        assert(batch->items[i].status == KV_IO_ERROR || receiving_holds(batch, i));
    }
    assert(failed >= 1 && failed < 6);
    receiving_end(batch);
    receiving_nothing_leaks(state, 9);
    world_destroy(state);
}

static void going_offline_ends_it_at_once(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        kv_engine_options options = calls_options;
        receiving *batch;
        world *state;

        options.durability = durability;
        state = calls_create(&options);
        assert(calls_set(state, "before", 1, 100) == KV_OK && calls_flush(state));
        batch = receiving_start(state, 20, 0);
        for (uint32_t n = 0; n < 6; n++)
            assert(receiving_push(batch, 2000));
        kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_JOURNAL_1, -EIO, 1);
        calls_set(state, "x", 1, 10);
        while (calls_statistics(state).offline == 0)
            assert(world_move(state));
        receiving_push_all(batch, 5000);
        while (!batch->client->finished)
            assert(world_move(state));
        for (uint32_t i = 6; i < 20; i++)
            assert(batch->items[i].status == KV_UNAVAILABLE);
        receiving_end(batch);
        calls_reopen(state, CALLS_KILL);
        assert(calls_holds(state, "before", 1, 100));
        world_destroy(state);
    }
}

static void stats_are_wanted(void)
{
    world *state = calls_create(&calls_options);
    kv_item item = calls_item("k", NULL, 5);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_RECEIVE};
    kv_operation *operation;

    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    world_destroy(state);
}

int main(void)
{
    stats_are_wanted();
    values_are_set_whatever_the_pieces();
    a_value_that_does_not_match_is_not_set();
    a_run_whose_values_are_all_wrong_leaves_nothing();
    a_batch_larger_than_memory_comes_through();
    no_more_memory_is_held_than_what_comes_next();
    bytes_of_refused_items_are_swallowed();
    a_full_store_refuses_and_goes_on();
    the_last_of_equal_keys_wins_and_expires();
    an_abort_at_any_stage_leaves_the_store_whole();
    a_value_that_is_not_complete_is_never_set();
    memory_answers_before_the_device_holds_it();
    a_flush_waits_for_no_peer();
    what_has_come_is_written_while_more_comes();
    a_failed_write_is_its_keys_error();
    going_offline_ends_it_at_once();
    return 0;
}
