/* Sets of a chain: held ones show nothing before they are settled; retained values stay where they
 * are until they are released. */

#include "engine_receive.h"

#define BATCH 20u

static bool peeks(world *state, const char *key)
{
    kv_item_stat stat;
    uint32_t size;

    return kv_engine_peek(state->engine, key, (uint32_t)strlen(key), &stat, &size) == 0;
}

static void nothing_is_shown_before_it_is_settled(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, RECEIVING_CHAIN);

        receiving_push_all(batch, 5000);
        receiving_rest(state);
        assert(!batch->client->answered);
        for (uint32_t i = 0; i < BATCH; i++) {
            assert(kv_operation_refusal(batch->client->operation, i) == KV_OK);
            assert(calls_status(state, batch->names[i]) == KV_NOT_FOUND && !peeks(state, batch->names[i]));
        }
        assert(calls_list(state, "") == 0 && calls_statistics(state).objects == 0);

        receiving_settle(batch, NULL);
        while (!batch->client->answered)
            assert(world_move(state));
        for (uint32_t i = 0; i < BATCH; i++)
            assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
        assert(calls_list(state, "") == BATCH && calls_flush(state));
        assert(!batch->client->finished);
        kv_operation_release(batch->client->operation);
        receiving_finish(batch);
        calls_reopen(state, CALLS_POWER);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(receiving_holds(batch, i));
        receiving_end(batch);
        receiving_nothing_leaks(state, BATCH);
        world_destroy(state);
    }
}

/* Its last step before it is settled is the one for the last value, or there was none for it. */
static void it_is_set_wherever_its_values_are(void)
{
    for (uint32_t moves = 0; moves < 40; moves++) {
        world *state = receiving_world(moves % 3, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, RECEIVING_CHAIN);

        receiving_push_all(batch, 70000);
        for (uint32_t n = 0; n < moves; n++)
            world_move(state);
        receiving_settle(batch, NULL);
        kv_operation_release(batch->client->operation);
        receiving_finish(batch);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
        receiving_end(batch);
        receiving_nothing_leaks(state, BATCH);
        world_destroy(state);
    }
}

static void memory_answers_when_it_is_settled(void)
{
    world *state = receiving_world(KV_DURABILITY_MEMORY, 0);
    receiving *batch = receiving_create_as(state, 8, 0, KV_REQUEST_HELD);

    for (uint32_t i = 0; i < 8; i++)
        snprintf(batch->names[i], sizeof(batch->names[i]), "k0");
    receiving_begin(batch);
    receiving_push_all(batch, UINT32_MAX);
    receiving_settle(batch, NULL);
    assert(batch->client->answered && !batch->client->finished);
    assert(calls_holds(state, "k0", 7, 100)); /* the last of equal keys */
    receiving_finish(batch);
    assert(calls_holds(state, "k0", 7, 100));
    receiving_end(batch);
    receiving_nothing_leaks(state, 1);
    world_destroy(state);
}

static void its_caller_decides_for_each_item(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, RECEIVING_CHAIN);
        uint8_t statuses[BATCH] = {0};

        for (uint32_t i = 0; i < BATCH; i += 3)
            statuses[i] = i % 2 ? KV_EXISTS : KV_TIMEOUT;
        receiving_push_all(batch, 5000);
        if (durability == 1)
            receiving_rest(state);
        for (uint32_t i = 0; i < BATCH; i++)
            batch->stats[i].version = kv_version(9, 100 + i); /* known only now */
        receiving_settle(batch, statuses);
        kv_operation_release(batch->client->operation);
        receiving_finish(batch);
        for (uint32_t i = 0; i < BATCH; i++) {
            kv_item_stat stat;
            uint32_t size;

            assert(batch->items[i].status == statuses[i]);
            assert(statuses[i] ? calls_status(state, batch->names[i]) == KV_NOT_FOUND
                               : receiving_holds(batch, i));
            if (statuses[i] == KV_OK)
                assert(calls_stat(state, batch->names[i], &stat, &size) == KV_OK &&
                       stat.version == kv_version(9, 100 + i));
        }
        receiving_end(batch);
        receiving_nothing_leaks(state, BATCH);
        world_destroy(state);
    }
}

static void a_wrong_checksum_is_told_with_the_last_byte(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_create_as(state, 10, 0, RECEIVING_CHAIN);

        for (uint32_t i = 0; i < 10; i += 3)
            batch->stats[i].checksum ^= 1;
        receiving_begin(batch);
        for (uint32_t i = 0; i < 10; i++) {
            while (batch->pushing == i)
                assert(receiving_push(batch, 40000) || world_move(state));
            assert(kv_operation_refusal(batch->client->operation, i) == (i % 3 ? KV_OK : KV_CORRUPT));
        }
        receiving_rest(state);
        receiving_settle(batch, (const uint8_t[10]){KV_EXISTS, KV_EXISTS}); /* what is refused stays refused */
        kv_operation_release(batch->client->operation);
        receiving_finish(batch);
        for (uint32_t i = 0; i < 10; i++)
            assert(batch->items[i].status == (i % 3 == 0 ? KV_CORRUPT : i == 1 ? KV_EXISTS : KV_OK));
        receiving_end(batch);
        receiving_nothing_leaks(state, 10);
        world_destroy(state);
    }
}

static void an_abort_sets_nothing_and_gives_everything_back(void)
{
    for (uint32_t stage = 0; stage < 150; stage++) {
        world *state = receiving_world(stage % 3, stage % 4 ? 0 : RECEIVING_TIER_SMALL);
        uint32_t flags = stage % 2 ? RECEIVING_CHAIN : KV_REQUEST_HELD;
        receiving *batch;

        assert(calls_set(state, "k3", 99, 4000) == KV_OK);
        batch = receiving_start_as(state, 10, 0, flags);
        for (uint32_t n = 0; n < stage && !receiving_came(batch); n++)
            if (n % 3 > 0 || !receiving_push(batch, 20000))
                world_move(state);
        kv_operation_abort(batch->client->operation, KV_TIMEOUT);
        receiving_push_all(batch, 50000); /* the peer does not know yet */
        receiving_rest(state);
        assert(batch->client->answered && batch->client->finished == !(flags & KV_REQUEST_RETAINED));
        if (flags & KV_REQUEST_RETAINED) {
            kv_operation_settle(batch->client->operation, NULL); /* nor does its caller, perhaps */
            kv_operation_release(batch->client->operation);
        }
        receiving_finish(batch);
        for (uint32_t i = 0; i < 10; i++)
            assert(batch->items[i].status == KV_TIMEOUT || batch->items[i].status == KV_TOO_LARGE);
        assert(calls_holds(state, "k3", 99, 4000) && calls_statistics(state).objects == 1);
        receiving_end(batch);
        assert(calls_set(state, "k5", 1, 200000) == KV_OK && calls_holds(state, "k5", 1, 200000));
        receiving_nothing_leaks(state, 10);
        world_destroy(state);
    }
}

static void an_abort_comes_too_late_when_it_is_settled(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, KV_REQUEST_HELD);

        receiving_push_all(batch, 5000);
        kv_operation_settle(batch->client->operation, NULL);
        kv_operation_abort(batch->client->operation, KV_CANCELLED);
        if (kv_operation_claim(batch->client->operation))
            world_step(state, batch->client);
        receiving_finish(batch);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
        receiving_end(batch);
        world_destroy(state);
    }
}

/* Of every shape: packed side by side, in one piece, in many, empty; answered and replaced, too. */
static void retained_values_stay_whatever_happens(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, durability == 1 ? KV_REQUEST_RETAINED : RECEIVING_CHAIN);
        uint32_t scattered = 0;
        char name[16];

        receiving_push_all(batch, 5000);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(receiving_keeps(batch, i));
        if (durability != 1)
            receiving_settle(batch, NULL);
        for (uint32_t round = 0; round < 60; round++) { /* more than the DRAM tier holds */
            snprintf(name, sizeof(name), round % 2 ? "k%u" : "x%u", round % 20);
            assert(calls_set(state, name, 500 + round, 150000) == KV_OK);
            calls_key(state, KV_OP_DELETE, name);
        }
        assert(calls_flush(state) && batch->client->answered && !batch->client->finished);
        for (uint32_t i = 0; i < BATCH; i++) {
            struct iovec ranges[KV_LENT_RANGES_MAX];

            assert(receiving_keeps(batch, i) && batch->items[i].status == KV_OK);
            scattered += kv_operation_received(batch->client->operation, i, ranges) > 1;
        }
        assert(scattered > 0);
        kv_operation_release(batch->client->operation);
        receiving_end(batch);
        receiving_nothing_leaks(state, BATCH);
        world_destroy(state);
    }
}

static void values_may_be_released_at_any_time(void)
{
    for (uint32_t stage = 0; stage < 80; stage++) {
        world *state = receiving_world(stage % 3, 0);
        receiving *batch = receiving_start_as(state, 10, 0, stage % 2 ? RECEIVING_CHAIN : KV_REQUEST_RETAINED);
        bool released = false;

        for (uint32_t n = 0; !receiving_came(batch) || n <= stage; n++) {
            if (n == stage) {
                kv_operation_release(batch->client->operation);
                released = true;
            }
            if (batch->client->finished || receiving_came(batch) || !receiving_push(batch, 20000))
                world_move(state);
        }
        if (!released)
            kv_operation_release(batch->client->operation);
        if (stage % 2)
            receiving_settle(batch, NULL);
        receiving_finish(batch);
        for (uint32_t i = 0; i < 10; i++)
            assert(batch->items[i].status == KV_OK && receiving_holds(batch, i));
        receiving_end(batch);
        receiving_nothing_leaks(state, 10);
        world_destroy(state);
    }
}

static void a_failed_write_is_told(void)
{
    world *state = receiving_world(KV_DURABILITY_DISK, 0);
    receiving *batch = receiving_start_as(state, 9, 0, RECEIVING_CHAIN);
    uint32_t failed = 0;

    kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_SLABS, -EIO, 1);
    receiving_push_all(batch, UINT32_MAX);
    receiving_rest(state);
    for (uint32_t i = 0; i < 9; i++)
        failed += kv_operation_refusal(batch->client->operation, i) == KV_IO_ERROR;
    assert(failed >= 1 && failed < 6);
    receiving_settle(batch, NULL);
    kv_operation_release(batch->client->operation);
    receiving_finish(batch);
    for (uint32_t i = 0; i < 9; i++)
        assert(batch->items[i].status == KV_IO_ERROR || receiving_holds(batch, i));
    receiving_end(batch);
    receiving_nothing_leaks(state, 9);
    world_destroy(state);
}

static void going_offline_answers_it(void)
{
    for (uint32_t n = 0; n < 6; n++) {
        world *state = receiving_world(n % 3, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, RECEIVING_CHAIN);

        receiving_push_all(batch, 5000);
        kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_JOURNAL_1, -EIO, 1);
        if (n >= 3)
            receiving_settle(batch, NULL);
        calls_set(state, "x", 1, 10);
        while (calls_statistics(state).offline == 0)
            assert(world_move(state));
        receiving_rest(state);
        for (uint32_t i = 0; i < BATCH && n < 3; i++)
            assert(kv_operation_refusal(batch->client->operation, i) == KV_UNAVAILABLE);
        if (n < 3)
            receiving_settle(batch, NULL);
        assert(batch->client->answered && !batch->client->finished);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(batch->items[i].status == KV_UNAVAILABLE || (n == 3 && batch->items[i].status == KV_OK));
        for (uint32_t i = 0; i < BATCH; i++)
            assert(receiving_keeps(batch, i));
        kv_operation_release(batch->client->operation);
        receiving_end(batch);
        world_destroy(state);
    }
}

static void a_crash_leaves_nothing_of_it(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_start_as(state, BATCH, 0, RECEIVING_CHAIN);

        receiving_push_all(batch, 5000);
        receiving_rest(state);
        assert(calls_set(state, "other", 1, 100) == KV_OK && calls_flush(state));
        batch->client = NULL; /* the world forgets it */
        calls_reopen(state, CALLS_KILL);
        assert(calls_statistics(state).objects == 1 && calls_holds(state, "other", 1, 100));
        for (uint32_t i = 0; i < RECEIVING_BATCH; i++)
            free(batch->values[i]);
        free(batch);
        world_destroy(state);
    }
}

static void if_absent_is_honoured_when_it_is_settled(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = receiving_world(durability, 0);
        receiving *batch = receiving_create_as(state, 4, 0, KV_REQUEST_HELD);

        assert(calls_set(state, "k0", 90, 100) == KV_OK);
        batch->request.if_absent = 1;
        receiving_begin(batch);
        receiving_push_all(batch, 5000);
        assert(kv_operation_refusal(batch->client->operation, 0) == KV_OK);
        assert(calls_key(state, KV_OP_DELETE, "k0") == KV_OK && calls_set(state, "k1", 91, 50) == KV_OK);
        receiving_settle(batch, NULL);
        receiving_finish(batch);
        assert(batch->items[0].status == KV_OK && batch->items[1].status == KV_EXISTS);
        assert(receiving_holds(batch, 0) && calls_holds(state, "k1", 91, 50));
        receiving_end(batch);
        world_destroy(state);
    }
}

static void flags_are_for_receiving_sets(void)
{
    world *state = calls_create(&calls_options);
    kv_item item = calls_item("k", NULL, 5);
    kv_item_stat stat = {0};
    kv_request request = {.items = &item, .stats = &stat, .count = 1, .operation = KV_OP_RECEIVE};
    kv_operation *operation;

    request.flags = 16;
    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    request.flags = KV_REQUEST_HELD;
    request.operation = KV_OP_SET;
    assert(kv_operation_begin(state->engine, &request, &operation) == -EINVAL);
    world_destroy(state);
}

int main(void)
{
    flags_are_for_receiving_sets();
    nothing_is_shown_before_it_is_settled();
    it_is_set_wherever_its_values_are();
    memory_answers_when_it_is_settled();
    its_caller_decides_for_each_item();
    a_wrong_checksum_is_told_with_the_last_byte();
    an_abort_sets_nothing_and_gives_everything_back();
    an_abort_comes_too_late_when_it_is_settled();
    retained_values_stay_whatever_happens();
    values_may_be_released_at_any_time();
    a_failed_write_is_told();
    going_offline_answers_it();
    a_crash_leaves_nothing_of_it();
    if_absent_is_honoured_when_it_is_settled();
    return 0;
}
