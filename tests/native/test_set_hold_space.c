/* Held sets and what is short: refusals are told before they are settled, and what they take stops
 * nobody who does not need it. */

#include "engine_receive.h"

static void want_of_space_is_told_before(void)
{
    kv_engine_options options = calls_options;
    uint32_t refused = 0;
    receiving *batch;
    world *state;

    options.capacity = 2u << 20;
    state = calls_create(&options);
    batch = receiving_create_as(state, 24, 0, RECEIVING_CHAIN);
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
            batches[n] = receiving_create_as(state, 4, n * 50, KV_REQUEST_HELD);
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

static void one_set_keeps_no_more_than_its_share_and_is_refused_the_rest(void)
{
    world *state = receiving_world(KV_DURABILITY_DISK, RECEIVING_TIER_SMALL);
    receiving *batch = receiving_create_as(state, 12, 0, RECEIVING_CHAIN);
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

    batch = receiving_create_as(state, 1, 0, RECEIVING_CHAIN); /* alone, a value may take all that any value may */
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
        world *state = receiving_world(durability, RECEIVING_TIER_SMALL);
        receiving *batches[12];
        uint32_t came = 0;

        assert(calls_set(state, "other", 3, 150000) == KV_OK);
        for (uint32_t n = 0; n < 12; n++) {
            batches[n] = receiving_create_as(state, 1, n, RECEIVING_CHAIN);
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
    batch = receiving_create_as(state, 9, 0, RECEIVING_CHAIN);
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

int main(void)
{
    want_of_space_is_told_before();
    a_limit_of_objects_is_told_before();
    one_set_keeps_no_more_than_its_share_and_is_refused_the_rest();
    others_go_on_beside_many_held_sets();
    a_cache_does_not_wait_for_held_sets();
    return 0;
}
