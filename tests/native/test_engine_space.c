/* Space: full stores, quotas, eviction, changing sizes of values, compaction, and space files that
 * cannot grow, on the simulated device. */

#include "engine_calls.h"

static const kv_engine_options small_options = {
    .capacity = 4u << 20,
    .slab_size = 256u << 10,
    .journal_size_max = 1u << 20,
    .journal_step = 64u << 10,
    .durability = KV_DURABILITY_DISK,
};

static const char *name(uint32_t i)
{
    static char names[4][16];
    static uint32_t turn;
    char *text = names[turn++ % 4];

    snprintf(text, 16, "k%u", i);
    return text;
}

/* Set values of this size until there is no space; how many fit. */
static uint32_t fill(world *state, uint32_t first, uint32_t size)
{
    for (uint32_t i = first;; i++) {
        int32_t status = calls_set(state, name(i), i, size);

        if (status == KV_NO_SPACE)
            return i - first;
        assert(status == KV_OK && i < 100000);
    }
}

/* Bytes that a value takes which is set by itself: small ones share pages only once they were moved. */
static uint64_t pages(uint32_t size)
{
    return (size + 4095) / 4096 * 4096;
}

static void delete_all(world *state, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++)
        assert(calls_key(state, KV_OP_DELETE, name(i)) == KV_OK);
}

/* The upkeep that a store does by itself while its client waits a moment. */
static void maintain(world *state)
{
    for (uint32_t i = 0; i < 20; i++) {
        state->now_ms += 1000;
        kv_engine_maintain(state->engine, world_run, state);
    }
}

static void a_full_store_refuses_loses_nothing_and_recovers(void)
{
    static const uint32_t sizes[] = {100, 4096, 5000, 65536, 300000};

    for (uint32_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        world *state = calls_create(&small_options);
        uint32_t count = fill(state, 0, sizes[s]);
        bool packed = sizes[s] % 4096 != 0 && sizes[s] < 10000; /* a pack's space comes back with its slab */

        assert((uint64_t)count * pages(sizes[s]) > state->options.capacity / 10 * 8);
        assert(calls_set(state, name(0), 0, sizes[s]) == KV_NO_SPACE);
        for (uint32_t end = CALLS_CLOSE; end <= CALLS_KILL; end++) {
            for (uint32_t i = 0; i < count; i++)
                assert(calls_holds(state, name(i), i, sizes[s]));
            calls_reopen(state, end);
        }
        delete_all(state, 0, 1);
        delete_all(state, count / 2, 1);
        assert(calls_set(state, name(count), count, sizes[s]) == (packed ? KV_NO_SPACE : KV_OK));
        delete_all(state, 1, count / 2 - 1);
        maintain(state);
        assert(calls_set(state, name(1), 1, sizes[s]) == KV_OK);
        world_destroy(state);
    }
}

/* Fill with one size, delete most of it here and there, and go on with another size. */
static void changing_sizes_never_ends_with_free_bytes_left(void)
{
    static const uint32_t sizes[] = {100, 200000, 5000, 300, 65536, 700, 30000, 4096, 1000000, 2000};
    const uint32_t count = sizeof(sizes) / sizeof(sizes[0]);
    world *state = calls_create(&small_options);
    uint32_t first = 0;

    for (uint32_t s = 0; s < 2 * count; s++) {
        uint32_t size = sizes[s % count];
        uint32_t filled = fill(state, first, size);
        uint32_t kept = 0;

        maintain(state);
        filled += fill(state, first + filled, size);
        if ((uint64_t)filled * pages(size) < state->options.capacity / 10 * 5) {
            fprintf(stderr, "round %u: only %u values of %u bytes fit\n", s, filled, size);
            abort();
        }
        for (uint32_t i = 0; i < filled; i++) { /* a few survivors here and there */
            if (i % 7 == 3 && (uint64_t)kept * pages(size) < state->options.capacity / 20)
                kept++;
            else
                delete_all(state, first + i, 1);
        }
        maintain(state);
        for (uint32_t i = 0; i < filled; i++) {
            int32_t status = calls_status(state, name(first + i));

            if (status == KV_OK) {
                assert(calls_holds(state, name(first + i), first + i, size));
                delete_all(state, first + i, 1);
            }
        }
        first += filled;
        maintain(state);
    }
    world_destroy(state);
}

static void compaction_gives_slabs_back(void)
{
    world *state = calls_create(&small_options);
    uint32_t count = fill(state, 0, 4096);
    kv_store_statistics before;
    kv_slab_row rows[32];

    for (uint32_t i = 0; i < count; i++)
        if (i % 4 != 0)
            delete_all(state, i, 1);
    assert(calls_flush(state));
    before = calls_statistics(state);
    assert(before.slabs_free == 0 && before.space_free > before.capacity / 2);
    assert(kv_engine_compact(state->engine, 100, world_run, state) > 0);
    assert(kv_engine_compact(state->engine, 100, world_run, state) >= 0);
    assert(calls_statistics(state).slabs_free >= 8);
    assert(kv_engine_slabs(state->engine, rows, 32) == 1 && rows[0].extent_size == 4096);
    for (uint32_t i = 0; i < count; i += 4)
        assert(calls_holds(state, name(i), i, 4096));
    calls_reopen(state, CALLS_POWER);
    for (uint32_t i = 0; i < count; i += 4)
        assert(calls_holds(state, name(i), i, 4096));
    assert(calls_set(state, "big", 1, 1000000) == KV_OK);
    world_destroy(state);
}

/* A value that cannot be read, and so not moved, does not keep the other slabs from being emptied. */
static void a_damaged_value_does_not_stop_compaction(void)
{
    world *state = calls_create(&small_options);
    uint32_t count = fill(state, 0, 4096);
    uint64_t size;
    uint64_t objects;

    for (uint32_t i = 0; i < count; i++)
        if (i % 8 != 0)
            delete_all(state, i, 1);
    assert(calls_flush(state));
    calls_reopen(state, CALLS_CLOSE); /* nothing is cached */
    kv_sim_bytes(state->sim, KV_FILE_SLABS, &size);
    kv_sim_flip(state->sim, KV_FILE_SLABS, (1u << 20) + 5, 1); /* the first extent of the first slab */
    for (uint32_t i = 0; i < 4; i++)
        assert(kv_engine_compact(state->engine, 100, world_run, state) >= 0);
    assert(calls_statistics(state).slabs_free >= 12);
    assert(calls_verify(state, &objects) == 1 && objects == (count + 7) / 8);
    world_destroy(state);
}

/* The space of a value that was deleted is free once its last reader is done: who needs it waits for that. */
static void a_set_waits_for_the_reader_of_what_it_replaces(void)
{
    static uint8_t value[60000];
    static uint8_t newer[60000];
    kv_engine_options options = small_options;
    kv_item items[3] = {calls_item("k0", value, sizeof(value)), calls_item("k0", NULL, 0),
                        calls_item("new", newer, sizeof(newer))};
    kv_request read = {.items = &items[0], .count = 1, .operation = KV_OP_GET};
    kv_request remove = {.items = &items[1], .count = 1, .operation = KV_OP_DELETE};
    kv_request flush = {.operation = KV_OP_FLUSH};
    kv_request set = {.items = &items[2], .count = 1, .operation = KV_OP_SET};
    world_client *reader;
    world_client *writer;
    world *state;

    model_value_fill(7, 1, newer, sizeof(newer));
    options.capacity = 1u << 20;
    state = calls_create(&options);
    fill(state, 0, 60000);
    calls_reopen(state, CALLS_CLOSE);
    reader = calls_begin(state, &read);
    world_step(state, reader);
    calls_finish_alone(state, calls_begin(state, &remove));
    calls_finish_alone(state, calls_begin(state, &flush));
    writer = calls_begin(state, &set);
    world_step(state, writer);
    assert(!writer->answered);
    calls_finish(state, reader);
    calls_finish(state, writer);
    assert(items[0].status == KV_OK && memcmp(value, calls_value(0, 60000), 60000) == 0);
    assert(items[2].status == KV_OK && calls_holds(state, "new", 7, 60000));
    world_destroy(state);
}

static void a_limit_of_objects_refuses_or_evicts(void)
{
    for (uint32_t eviction = KV_EVICTION_NONE; eviction <= KV_EVICTION_CACHE; eviction++) {
        kv_engine_options options = small_options;
        world *state;

        options.objects_max = 10;
        options.eviction = eviction;
        state = calls_create(&options);
        for (uint32_t i = 0; i < 10; i++)
            assert(calls_set(state, name(i), i, 100) == KV_OK);
        assert(calls_key(state, KV_OP_PIN, name(3)) == KV_OK);
        for (uint32_t i = 10; i < 100; i++)
            assert(calls_set(state, name(i), i, 100) == (eviction ? KV_OK : KV_QUOTA));
        assert(calls_set(state, name(3), 4, 50) == KV_OK && calls_holds(state, name(3), 4, 50));
        assert(calls_statistics(state).objects == 10);
        calls_reopen(state, CALLS_KILL);
        assert(calls_statistics(state).objects == 10 && calls_holds(state, name(3), 4, 50));
        assert(calls_key(state, KV_OP_DELETE, name(3)) == KV_OK);
        assert(calls_set(state, name(200), 1, 100) == KV_OK);
        world_destroy(state);
    }
}

/* One batch with more records than the journal's buffer holds, each with an eviction: sets wait for the
 * journal, and all of them succeed. */
static void a_full_journal_buffer_makes_updates_wait(void)
{
    enum { COUNT = 5000, KEY_SIZE = 1000 };
    kv_item *items = calloc(COUNT, sizeof(*items));
    char *keys = malloc((size_t)COUNT * (KEY_SIZE + 1));

    assert(items && keys);
    for (uint32_t variant = 0; variant < 6; variant++) {
        kv_engine_options options = small_options;
        kv_request request = {.items = items, .count = COUNT, .operation = KV_OP_SET};
        world *state;

        options.durability = variant % 3;
        options.eviction = variant < 3 ? KV_EVICTION_CACHE : KV_EVICTION_NONE;
        options.objects_max = variant < 3 ? 10 : 0;
        state = calls_create(&options);
        for (uint32_t i = 0; i < COUNT; i++) {
            char *key = keys + (size_t)i * (KEY_SIZE + 1);

            snprintf(key, KEY_SIZE + 1, "%0*u", KEY_SIZE, i);
            items[i] = calls_item(key, NULL, 0);
        }
        calls_run(state, &request);
        for (uint32_t i = 0; i < COUNT; i++)
            assert(items[i].status == KV_OK);
        assert(calls_statistics(state).objects == (variant < 3 ? 10 : COUNT));
        request.operation = KV_OP_DELETE;
        calls_run(state, &request);
        assert(calls_statistics(state).objects == 0);
        request.operation = KV_OP_SET;
        state->options.objects_max = 0;
        calls_reopen(state, CALLS_CLOSE);
        calls_run(state, &request);
        state->options.objects_max = 10; /* far fewer: more evictions than the buffer has room for */
        calls_reopen(state, CALLS_CLOSE);
        assert(calls_set(state, "one more", 1, 0) == (variant < 3 ? KV_OK : KV_QUOTA));
        assert(calls_statistics(state).objects == (variant < 3 ? 10 : COUNT));
        request.operation = KV_OP_DELETE;
        calls_run(state, &request);
        calls_key(state, KV_OP_DELETE, "one more");
        calls_reopen(state, CALLS_CLOSE);
        assert(calls_statistics(state).objects == 0);
        world_destroy(state);
    }
    free(items);
    free(keys);
}

static void the_space_may_be_asked_larger_or_smaller_at_the_next_open(void)
{
    world *state = calls_create(&small_options);
    uint32_t count = fill(state, 0, 65536);
    uint32_t more;

    state->options.capacity = 8u << 20;
    calls_reopen(state, CALLS_CLOSE);
    more = fill(state, count, 65536);
    assert(more >= count - 4);
    state->options.capacity = 2u << 20;
    calls_reopen(state, CALLS_CLOSE);
    for (uint32_t i = 0; i < count + more; i++)
        assert(calls_holds(state, name(i), i, 65536));
    assert(calls_set(state, "k", 1, 100) == KV_NO_SPACE);
    delete_all(state, 0, count + more);
    maintain(state);
    assert(calls_set(state, "k", 1, 100) == KV_OK);
    world_destroy(state);
}

/* Capacity 0: the slab file grows until the file system is full. */
static void a_full_file_system_answers_no_space(void)
{
    kv_engine_options options = small_options;
    kv_sim_options sim = {.seed = 9, .space_max = 16u << 20};
    char message[KV_MESSAGE_SIZE] = "";
    uint32_t count;
    world *state;

    options.capacity = 0;
    options.space_max = 1u << 30;
    options.journal_step = 1u << 20; /* so that the journal has its room beforehand */
    state = world_create(9, &options, &sim);
    assert(calls_try_open(state, message) == 0);
    count = fill(state, 0, 200000);
    assert(count > 40);
    for (uint32_t i = 0; i < count; i++)
        assert(calls_holds(state, name(i), i, 200000));
    delete_all(state, 0, 10);
    assert(fill(state, count, 200000) >= 9);
    assert(calls_statistics(state).offline == 0);
    calls_reopen(state, CALLS_CLOSE);
    assert(calls_holds(state, name(20), 20, 200000));
    world_destroy(state);
}

/* The file system is full of other things: sets are refused before anything begins, deletes for longer
 * not, and the store serves on. */
static void a_journal_that_cannot_grow_refuses_sets_first(void)
{
    world *state = calls_create(&small_options);
    uint32_t count = 0;
    uint32_t deleted = 0;

    kv_sim_set_space(state->sim, 1);
    while (calls_set(state, name(count), count, 100) == KV_OK)
        count++;
    assert(count > 0 && calls_set(state, "more", 1, 100) == KV_NO_SPACE);
    assert(calls_key(state, KV_OP_DELETE, name(0)) == KV_OK);
    while (calls_key(state, KV_OP_DELETE, name(++deleted)) == KV_OK)
        assert(deleted + 1 < count);
    assert(calls_key(state, KV_OP_DELETE, name(deleted)) == KV_NO_SPACE);
    assert(calls_statistics(state).offline == 0);
    for (uint32_t i = deleted; i < count; i++)
        assert(calls_holds(state, name(i), i, 100));

    kv_sim_set_space(state->sim, 256u << 20);
    state->now_ms += 1000;
    assert(calls_set(state, "more", 1, 100) == KV_OK);
    calls_reopen(state, CALLS_KILL);
    for (uint32_t i = deleted; i < count; i++)
        assert(calls_holds(state, name(i), i, 100));
    assert(calls_key(state, KV_OP_EXISTS, name(deleted - 1)) == KV_NOT_FOUND);
    assert(calls_holds(state, "more", 1, 100));
    world_destroy(state);
}

/* With room for checkpoints, which empty the journal, a full file system is not even noticed. */
static void a_checkpoint_empties_a_journal_that_cannot_grow(void)
{
    world *state = calls_create(&small_options);
    uint64_t before;

    assert(calls_set(state, "k", 1, 100) == KV_OK);
    for (int i = 0; i < 2; i++)
        assert(kv_engine_checkpoint(state->engine) == 0);
    before = calls_statistics(state).checkpoints;
    kv_sim_set_space(state->sim, 1);
    for (uint32_t i = 0; i < 200; i++)
        assert(calls_set(state, "k", i, 100) == KV_OK);
    assert(calls_statistics(state).checkpoints > before + 2 && calls_statistics(state).offline == 0);
    assert(calls_holds(state, "k", 199, 100));
    world_destroy(state);
}

static void a_device_too_small_for_the_store_says_so(void)
{
    kv_sim_options sim = {.seed = 9, .space_max = 2u << 20};
    char message[KV_MESSAGE_SIZE] = "";
    world *state = world_create(9, &small_options, &sim);

    assert(calls_try_open(state, message) == -ENOSPC && strstr(message, "too full"));
    world_destroy(state);
}

/* A checkpoint for which there is no room is given up; the journal goes on, and the next one succeeds. */
static void a_checkpoint_without_room_is_tried_again(void)
{
    world *state = calls_create(&small_options);

    assert(calls_set(state, "k", 1, 5000) == KV_OK);
    kv_sim_set_space(state->sim, 1);
    assert(kv_engine_checkpoint(state->engine) == -ENOSPC);
    assert(calls_set(state, "k", 2, 6000) == KV_OK && calls_statistics(state).offline == 0);
    calls_reopen(state, CALLS_KILL);
    assert(calls_holds(state, "k", 2, 6000));
    assert(calls_set(state, "more", 3, 6000) == KV_OK);
    kv_sim_set_space(state->sim, 256u << 20);
    assert(kv_engine_checkpoint(state->engine) == 0 && kv_engine_checkpoint(state->engine) == 0);
    calls_reopen(state, CALLS_POWER);
    assert(calls_holds(state, "k", 2, 6000) && calls_holds(state, "more", 3, 6000));
    world_destroy(state);
}

int main(void)
{
    a_full_store_refuses_loses_nothing_and_recovers();
    changing_sizes_never_ends_with_free_bytes_left();
    compaction_gives_slabs_back();
    a_damaged_value_does_not_stop_compaction();
    a_set_waits_for_the_reader_of_what_it_replaces();
    a_limit_of_objects_refuses_or_evicts();
    a_full_journal_buffer_makes_updates_wait();
    the_space_may_be_asked_larger_or_smaller_at_the_next_open();
    a_full_file_system_answers_no_space();
    a_journal_that_cannot_grow_refuses_sets_first();
    a_checkpoint_empties_a_journal_that_cannot_grow();
    a_device_too_small_for_the_store_says_so();
    a_checkpoint_without_room_is_tried_again();
    return 0;
}
