/* Sets of a chain: held ones show nothing before they are settled, tell refusals before that, and stop nobody who
 * does not need what they hold; retained values stay where they are until they are released. */

#include "engine_receive.h"

#define ALL_FLAGS (KV_REQUEST_VERSIONED | KV_REQUEST_HELD | KV_REQUEST_RETAINED)
#define TIER_SMALL (1u << 20)
#define BATCH 20u

static world *world_of(uint32_t durability, uint64_t memory_size)
{
    kv_engine_options options = calls_options;

    options.durability = durability;
    options.memory_size = memory_size;
    return calls_create(&options);
}

static receiving *hold_create(world *state, uint32_t count, uint32_t tag, uint32_t flags)
{
    receiving *batch = receiving_create(state, count, tag);

    batch->request.flags = flags;
    return batch;
}

static receiving *hold_start(world *state, uint32_t count, uint32_t tag, uint32_t flags)
{
    receiving *batch = hold_create(state, count, tag, flags);

    receiving_begin(batch);
    return batch;
}

static bool peeks(world *state, const char *key)
{
    kv_item_stat stat;
    uint32_t size;

    return kv_engine_peek(state->engine, key, (uint32_t)strlen(key), &stat, &size) == 0;
}

static void nothing_is_shown_before_it_is_settled(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = world_of(durability, 0);
        receiving *batch = hold_start(state, BATCH, 0, ALL_FLAGS);

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
        world *state = world_of(moves % 3, 0);
        receiving *batch = hold_start(state, BATCH, 0, ALL_FLAGS);

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
    world *state = world_of(KV_DURABILITY_MEMORY, 0);
    receiving *batch = hold_create(state, 8, 0, KV_REQUEST_HELD);

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
        world *state = world_of(durability, 0);
        receiving *batch = hold_start(state, BATCH, 0, ALL_FLAGS);
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
        world *state = world_of(durability, 0);
        receiving *batch = hold_create(state, 10, 0, ALL_FLAGS);

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

static void want_of_space_is_told_before(void)
{
    kv_engine_options options = calls_options;
    uint32_t refused = 0;
    receiving *batch;
    world *state;

    options.capacity = 2u << 20;
    state = calls_create(&options);
    batch = hold_create(state, 24, 0, ALL_FLAGS);
    for (uint32_t i = 0; i < 24; i++)
        receiving_resize(batch, i, i % 2 ? 200000 : 100);
    receiving_begin(batch);
    receiving_push_all(batch, 100000);
    for (uint32_t i = 0; i < 24; i++)
        refused += kv_operation_refusal(batch->client->operation, i) == KV_NO_SPACE;
    assert(refused > 1 && refused < 13);
    receiving_settle(batch, NULL);
    kv_operation_release(batch->client->operation);
    receiving_finish(batch);
    for (uint32_t i = 0; i < 24; i++) {
        refused -= batch->items[i].status == KV_NO_SPACE;
        assert(batch->items[i].status == KV_NO_SPACE || receiving_holds(batch, i));
    }
    assert(refused == 0);
    receiving_end(batch);
    receiving_nothing_leaks(state, 24);
    world_destroy(state);
}

static void a_limit_of_objects_is_told_before(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        kv_engine_options options = calls_options;
        receiving *batches[2];
        uint32_t set = 0;
        world *state;

        options.durability = durability;
        options.objects_max = 6;
        state = calls_create(&options);
        assert(calls_set(state, "k1", 1, 100) == KV_OK && calls_set(state, "other", 1, 100) == KV_OK);
        for (uint32_t n = 0; n < 2; n++) {
            batches[n] = hold_create(state, 4, n * 50, KV_REQUEST_HELD);
            for (uint32_t i = 0; i < 4 && n; i++)
                snprintf(batches[n]->names[i], sizeof(batches[n]->names[i]), "m%u", i);
            receiving_begin(batches[n]);
            receiving_push_all(batches[n], 100000);
        }
        for (uint32_t n = 2; n-- > 0;) { /* k1 takes the place of one that is there */
            kv_status refusals[4];

            for (uint32_t i = 0; i < 4; i++)
                refusals[i] = kv_operation_refusal(batches[n]->client->operation, i);
            receiving_settle(batches[n], NULL);
            receiving_finish(batches[n]);
            for (uint32_t i = 0; i < 4; i++) {
                assert(batches[n]->items[i].status == (int32_t)refusals[i]);
                set += refusals[i] == KV_OK;
                assert(refusals[i] == KV_OK || refusals[i] == KV_QUOTA);
            }
            receiving_end(batches[n]);
        }
        assert(set == 4 && calls_statistics(state).objects <= 6);
        for (uint32_t i = 0; i < 4; i++) {
            char name[8];

            snprintf(name, sizeof(name), "k%u", i);
            calls_key(state, KV_OP_DELETE, name);
        }
        assert(calls_set(state, "k2", 1, 100) == KV_OK); /* no promise is left */
        world_destroy(state);
    }
}

static void an_abort_sets_nothing_and_gives_everything_back(void)
{
    for (uint32_t stage = 0; stage < 150; stage++) {
        world *state = world_of(stage % 3, stage % 4 ? 0 : TIER_SMALL);
        uint32_t flags = stage % 2 ? ALL_FLAGS : KV_REQUEST_HELD;
        receiving *batch;

        assert(calls_set(state, "k3", 99, 4000) == KV_OK);
        batch = hold_start(state, 10, 0, flags);
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
        world *state = world_of(durability, 0);
        receiving *batch = hold_start(state, BATCH, 0, KV_REQUEST_HELD);

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
        world *state = world_of(durability, 0);
        receiving *batch = hold_start(state, BATCH, 0, durability == 1 ? KV_REQUEST_RETAINED : ALL_FLAGS);
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
        world *state = world_of(stage % 3, 0);
        receiving *batch = hold_start(state, 10, 0, stage % 2 ? ALL_FLAGS : KV_REQUEST_RETAINED);
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

static void one_set_keeps_no_more_than_its_share_and_is_refused_the_rest(void)
{
    world *state = world_of(KV_DURABILITY_DISK, TIER_SMALL);
    receiving *batch = hold_create(state, 12, 0, ALL_FLAGS);
    uint32_t refused = 0;

    for (uint32_t i = 0; i < 12; i++)
        receiving_resize(batch, i, i == 11 ? 0 : 100000);
    receiving_begin(batch);
    receiving_push_all(batch, 50000);
    for (uint32_t i = 0; i < 12; i++)
        refused += kv_operation_refusal(batch->client->operation, i) == KV_TOO_LARGE;
    assert(refused == 6);
    receiving_rest(state);
    receiving_settle(batch, NULL);
    kv_operation_release(batch->client->operation);
    receiving_finish(batch);
    assert(batch->items[0].status == KV_OK && batch->items[11].status == KV_OK);
    receiving_end(batch);

    batch = hold_create(state, 1, 0, ALL_FLAGS); /* alone, a value may take all that any value may */
    receiving_resize(batch, 0, 750000);
    receiving_begin(batch);
    receiving_push_all(batch, 50000);
    receiving_settle(batch, NULL);
    kv_operation_release(batch->client->operation);
    receiving_finish(batch);
    assert(batch->items[0].status == KV_OK && receiving_holds(batch, 0));
    receiving_end(batch);
    receiving_nothing_leaks(state, 12);
    world_destroy(state);
}

/* Half of them have all their values, the others wait for memory: of the store nobody else does. */
static void others_go_on_beside_many_held_sets(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        world *state = world_of(durability, TIER_SMALL);
        receiving *batches[12];
        uint32_t came = 0;

        assert(calls_set(state, "other", 3, 150000) == KV_OK);
        for (uint32_t n = 0; n < 12; n++) {
            batches[n] = hold_create(state, 1, n, ALL_FLAGS);
            snprintf(batches[n]->names[0], sizeof(batches[n]->names[0]), "k%x", n);
            receiving_resize(batches[n], 0, 130000);
            receiving_begin(batches[n]);
            while (!receiving_came(batches[n]) && (receiving_push(batches[n], 50000) || world_move(state)))
                continue;
            came += receiving_came(batches[n]);
        }
        assert(came > 3 && came < 12);
        for (uint32_t round = 0; round < 10; round++) {
            assert(calls_set(state, "new", round, 150000) == KV_OK && calls_holds(state, "new", round, 150000));
            assert(calls_holds(state, "other", 3, 150000) && calls_key(state, KV_OP_DELETE, "new") == KV_OK);
            assert(calls_flush(state) && kv_engine_checkpoint(state->engine) == 0);
            assert(kv_engine_compact(state->engine, 100, world_run, state) >= 0);
        }
        for (uint32_t done = 0, n = 0; done < 12; n = (n + 1) % 12) { /* each one's end lets others come in */
            if (!batches[n])
                continue;
            while (!receiving_came(batches[n]) && receiving_push(batches[n], 50000))
                continue;
            world_move(state);
            if (!receiving_came(batches[n]))
                continue;
            receiving_settle(batches[n], NULL);
            kv_operation_release(batches[n]->client->operation);
            receiving_finish(batches[n]);
            assert(batches[n]->items[0].status == KV_OK && receiving_holds(batches[n], 0));
            receiving_end(batches[n]);
            batches[n] = NULL;
            done++;
        }
        assert(calls_key(state, KV_OP_DELETE, "other") == KV_OK && calls_key(state, KV_OP_DELETE, "ka") == KV_OK &&
               calls_key(state, KV_OP_DELETE, "kb") == KV_OK);
        receiving_nothing_leaks(state, 10);
        world_destroy(state);
    }
}

/* What it has taken cannot be evicted before it is settled: the others are told so. */
static void a_cache_does_not_wait_for_held_sets(void)
{
    kv_engine_options options = calls_options;
    receiving *batch;
    world *state;

    options.capacity = 2u << 20;
    options.eviction = KV_EVICTION_CACHE;
    state = calls_create(&options);
    batch = hold_create(state, 9, 0, ALL_FLAGS);
    for (uint32_t i = 0; i < 9; i++)
        receiving_resize(batch, i, 190000);
    receiving_begin(batch);
    receiving_push_all(batch, 50000);
    receiving_rest(state);
    for (uint32_t round = 0; round < 20; round++) {
        int32_t status = calls_set(state, "x", round, 400000);

        assert(status == KV_OK || status == KV_NO_SPACE);
    }
    assert(calls_set(state, "x", 1, 1u << 20) == KV_NO_SPACE);
    receiving_settle(batch, NULL);
    kv_operation_release(batch->client->operation);
    receiving_end(batch);
    assert(calls_set(state, "x", 1, 1u << 20) == KV_OK);
    world_destroy(state);
}

static void a_failed_write_is_told(void)
{
    world *state = world_of(KV_DURABILITY_DISK, 0);
    receiving *batch = hold_start(state, 9, 0, ALL_FLAGS);
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
        world *state = world_of(n % 3, 0);
        receiving *batch = hold_start(state, BATCH, 0, ALL_FLAGS);

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
        world *state = world_of(durability, 0);
        receiving *batch = hold_start(state, BATCH, 0, ALL_FLAGS);

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
        world *state = world_of(durability, 0);
        receiving *batch = hold_create(state, 4, 0, KV_REQUEST_HELD);

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
    want_of_space_is_told_before();
    a_limit_of_objects_is_told_before();
    an_abort_sets_nothing_and_gives_everything_back();
    an_abort_comes_too_late_when_it_is_settled();
    retained_values_stay_whatever_happens();
    values_may_be_released_at_any_time();
    one_set_keeps_no_more_than_its_share_and_is_refused_the_rest();
    others_go_on_beside_many_held_sets();
    a_cache_does_not_wait_for_held_sets();
    a_failed_write_is_told();
    going_offline_answers_it();
    a_crash_leaves_nothing_of_it();
    if_absent_is_honoured_when_it_is_settled();
    return 0;
}
