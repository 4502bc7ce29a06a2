/* Devices that fail and media that rot: a failed operation is a clean status for its keys, a journal that
 * cannot be written takes the store offline, damage is refused or told, and never answered as a value. */

#include "engine/format.h"
#include "engine_calls.h"
#include "engine_lives.h"

#include "bytes/checksum.h"

#define KEYS 40u
#define SLABS_START (1u << 20)

/* In the course of random work one device operation fails; the work ends, and after a crash everything
 * acknowledged is there. */
static void fail_once(uint64_t seed, kv_io_kind kind, kv_file file, int error)
{
    lives_plan plan = lives_plan_of(seed);
    lives_tally tally = {0};
    bool power = seed % 2;
    world *state;

    plan.options.durability = seed / 2 % 3;
    state = lives_begin(seed, &plan);
    lives_work(state, 5 + (uint32_t)kv_random_below(&state->random, 40), plan.compactions);
    kv_sim_fail(state->sim, kind, file, error, 1);
    state->offline_expected = true;
    lives_work(state, 40, plan.compactions);
    world_drain(state);
    kv_sim_fail(state->sim, kind, file, error, 0);
    lives_strike(state, &tally, power);
    state->offline_expected = false;
    lives_next(state, &tally,
               plan.options.durability == KV_DURABILITY_MEMORY ||
                   (power && plan.options.durability == KV_DURABILITY_DISK));
    lives_work(state, 10, plan.compactions);
    world_drain(state);
    world_destroy(state);
}

static void any_device_operation_may_fail(void)
{
    static const struct {
        kv_io_kind kind;
        kv_file file;
    } places[] = {{KV_IO_READ, KV_FILE_SLABS},         {KV_IO_WRITE, KV_FILE_SLABS},
                  {KV_IO_WRITE, KV_FILE_JOURNAL_0},    {KV_IO_WRITE, KV_FILE_JOURNAL_1},
                  {KV_IO_WRITE, KV_FILE_CHECKPOINT_0}, {KV_IO_WRITE, KV_FILE_CHECKPOINT_1},
                  {KV_IO_FLUSH, KV_FILE_SLABS},        {KV_IO_FLUSH, KV_FILE_JOURNAL_0},
                  {KV_IO_FLUSH, KV_FILE_CHECKPOINT_1}};
    const uint32_t count = sizeof(places) / sizeof(places[0]);

    for (uint64_t seed = 1; seed <= 6u * count; seed++)
        fail_once(seed, places[seed % count].kind, places[seed % count].file,
                  seed / count % 4 == 0 ? -ENOSPC : -EIO);
}

static void a_failed_write_is_its_keys_error(void)
{
    world *state = calls_create(&calls_options);
    uint64_t used = calls_statistics(state).space_used;

    kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_SLABS, -EIO, 1);
    assert(calls_set(state, "k", 1, 5000) == KV_IO_ERROR && calls_status(state, "k") == KV_NOT_FOUND);
    kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_SLABS, -ENOSPC, 1);
    assert(calls_set(state, "k", 1, 5000) == KV_NO_SPACE);
    assert(calls_statistics(state).space_used == used);
    assert(calls_set(state, "k", 1, 5000) == KV_OK && calls_holds(state, "k", 1, 5000));
    calls_reopen(state, CALLS_KILL);
    kv_sim_fail(state->sim, KV_IO_READ, KV_FILE_SLABS, -EIO, 1);
    assert(calls_status(state, "k") == KV_IO_ERROR);
    assert(calls_holds(state, "k", 1, 5000));
    world_destroy(state);
}

static int64_t verify_result(world *state)
{
    uint8_t bad[4096];
    uint64_t cursor = 0;
    uint64_t objects = 0;
    uint64_t bytes = 0;

    return kv_engine_verify(state->engine, &cursor, UINT64_MAX, bad, sizeof(bad), &objects, &bytes,
                            world_run, state);
}

static void a_failed_journal_takes_the_store_offline(void)
{
    for (uint32_t flush = 0; flush < 2; flush++) {
        kv_engine_options options = calls_options;
        world *state;

        options.durability = flush ? KV_DURABILITY_SYNC : KV_DURABILITY_DISK;
        state = calls_create(&options);
        assert(calls_set(state, "before", 1, 5000) == KV_OK);
        kv_sim_fail(state->sim, flush ? KV_IO_FLUSH : KV_IO_WRITE, KV_FILE_JOURNAL_1, -EIO, 1);
        assert(calls_set(state, "lost", 1, 5000) == KV_UNAVAILABLE);
        assert(calls_statistics(state).offline == EIO);
        assert(calls_set(state, "k", 1, 10) == KV_UNAVAILABLE);
        assert(calls_status(state, "before") == KV_UNAVAILABLE);
        assert(calls_key(state, KV_OP_EXISTS, "before") == KV_UNAVAILABLE);
        assert(calls_key(state, KV_OP_DELETE, "before") == KV_UNAVAILABLE && !calls_flush(state));
        assert(verify_result(state) == -ENODEV);
        kv_engine_maintain(state->engine, world_run, state);
        calls_reopen(state, CALLS_KILL);
        assert(calls_holds(state, "before", 1, 5000) && calls_set(state, "k", 1, 10) == KV_OK);
        world_destroy(state);
    }
}

/* Answered at durability memory, then the write fails: the promise is broken, so no more is promised. */
static void a_failed_write_of_an_answered_value_takes_the_store_offline(void)
{
    kv_engine_options options = calls_options;
    world *state;

    options.durability = KV_DURABILITY_MEMORY;
    state = calls_create(&options);
    assert(calls_set(state, "before", 1, 5000) == KV_OK && calls_flush(state));
    kv_sim_fail(state->sim, KV_IO_WRITE, KV_FILE_SLABS, -EIO, 1);
    assert(calls_set(state, "k", 1, 5000) == KV_OK);
    assert(!calls_flush(state) && calls_statistics(state).offline == EIO);
    assert(calls_set(state, "k", 1, 5000) == KV_UNAVAILABLE);
    calls_reopen(state, CALLS_KILL);
    assert(calls_holds(state, "before", 1, 5000) && calls_status(state, "k") == KV_NOT_FOUND);
    world_destroy(state);
}

/* Also where it says that there was no room: what it had to make durable may be lost, and a later one would not know. */
static void a_checkpoint_whose_flush_failed_is_not_tried_again(void)
{
    static const kv_file files[] = {KV_FILE_JOURNAL_0, KV_FILE_CHECKPOINT_1, KV_FILE_CHECKPOINT_0};

    for (uint32_t n = 0; n < 3; n++) {
        world *state = calls_create(&calls_options);
        int result = 0;

        assert(calls_set(state, "before", 1, 5000) == KV_OK && calls_flush(state));
        kv_sim_fail(state->sim, KV_IO_FLUSH, files[n], -ENOSPC, 1);
        for (uint32_t turn = 0; turn < 2 && result == 0; turn++) {
            assert(calls_set(state, "more", turn, 5000) == KV_OK);
            result = kv_engine_checkpoint(state->engine);
        }
        assert(result < 0 && calls_statistics(state).offline != 0);
        assert(calls_set(state, "k", 1, 10) == KV_UNAVAILABLE);
        kv_sim_fail(state->sim, KV_IO_FLUSH, files[n], -ENOSPC, 0);
        calls_reopen(state, CALLS_POWER);
        assert(calls_holds(state, "before", 1, 5000));
        world_destroy(state);
    }
}

static uint32_t size_of(uint32_t i)
{
    static const uint32_t sizes[] = {0, 60, 3000, 4096, 9000, 40000, 100};

    return sizes[i % 7];
}

/* A store with something in checkpoint, journal, packs and extents; ended as told. */
static world *stored(calls_end end)
{
    world *state = calls_create(&calls_options);

    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];

        snprintf(key, sizeof(key), "k%u", i);
        assert(calls_set(state, key, i, size_of(i)) == KV_OK);
        if (i == KEYS / 3)
            assert(kv_engine_checkpoint(state->engine) == 0);
        if (i == KEYS / 2) {
            assert(calls_flush(state));
            calls_reopen(state, end);
        }
    }
    assert(calls_flush(state));
    for (uint32_t i = 0; i < 3; i++) /* groups that know of the flush */
        assert(calls_set(state, "last", i, 100) == KV_OK);
    calls_stop(state, end);
    return state;
}

/* Open without writing and read everything. The number of keys that are corrupt, or the error of the open. */
static int trial(world *state, char *message)
{
    int corrupt = 0;
    int result;

    state->options.open_mode = KV_OPEN_READ_ONLY;
    message[0] = 0;
    result = calls_try_open(state, message);
    if (result < 0) {
        state->device->operations->close(state->device);
        return result;
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        int32_t status;

        snprintf(key, sizeof(key), "k%u", i);
        status = calls_status(state, key);
        corrupt += status == KV_CORRUPT;
        if (status != KV_CORRUPT && !calls_holds(state, key, i, size_of(i))) {
            fprintf(stderr, "%s answers %d\n", key, status);
            return -ENODATA;
        }
    }
    calls_stop(state, CALLS_CLOSE);
    return corrupt;
}

static void rotten_values_are_told_and_never_returned(void)
{
    world *state = stored(CALLS_CLOSE);
    char message[KV_MESSAGE_SIZE];
    uint32_t seen = 0;
    kv_random random;

    kv_random_init(&random, 5);
    for (uint32_t i = 0; i < 200; i++) {
        uint64_t offset = SLABS_START + kv_random_below(&random, 1u << 20);
        uint8_t mask = (uint8_t)(1u << kv_random_below(&random, 8));
        int result;

        kv_sim_flip(state->sim, KV_FILE_SLABS, offset, mask);
        result = trial(state, message);
        assert(result == 0 || result == 1);
        seen += (uint32_t)result;
        kv_sim_flip(state->sim, KV_FILE_SLABS, offset, mask);
    }
    assert(seen > 25 && trial(state, message) == 0);
    world_destroy(state);
}

static void a_value_is_read_twice_before_it_counts_as_corrupt(void)
{
    world *state = calls_create(&calls_options);
    static uint8_t value[5000];
    kv_item item = calls_item("k", value, sizeof(value));
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_GET};
    world_client *client;

    assert(calls_set(state, "k", 1, 5000) == KV_OK);
    calls_reopen(state, CALLS_CLOSE);
    kv_sim_flip(state->sim, KV_FILE_SLABS, SLABS_START + 100, 4);
    client = calls_begin(state, &request);
    world_step(state, client);
    assert(kv_sim_pump(state->sim, 1) == 1);
    kv_sim_flip(state->sim, KV_FILE_SLABS, SLABS_START + 100, 4);
    calls_finish(state, client);
    assert(item.status == KV_OK && memcmp(value, calls_value(1, 5000), 5000) == 0);
    world_destroy(state);
}

/* Bits of metadata: refused with the file's name, or without effect. */
static void rotten_metadata_is_refused_or_harmless(calls_end end)
{
    world *state = stored(end);
    char message[KV_MESSAGE_SIZE];
    uint32_t refused[KV_FILE_COUNT] = {0};
    kv_random random;

    kv_random_init(&random, 6);
    assert(trial(state, message) == 0);
    for (uint32_t i = 0; i < 420; i++) {
        static const kv_file files[] = {KV_FILE_SUPERBLOCK,   KV_FILE_SLABS,        KV_FILE_JOURNAL_0, KV_FILE_JOURNAL_1,
                                        KV_FILE_CHECKPOINT_0, KV_FILE_CHECKPOINT_1, KV_FILE_JOURNAL_0};
        kv_file file = files[i % 7];
        uint64_t size;
        uint64_t offset;
        int result;

        kv_sim_bytes(state->sim, file, &size);
        offset = kv_random_below(&random, file == KV_FILE_SLABS ? 4096 : size < 200000 ? size : 200000);
        kv_sim_flip(state->sim, file, offset, 16);
        result = trial(state, message);
        kv_sim_flip(state->sim, file, offset, 16);
        if (result == -ENODATA) {
            fprintf(stderr, "a bit of %s at %llu loses data\n", kv_file_name(file), (unsigned long long)offset);
            abort();
        }
        assert(result == 0 || result == -EBADMSG || result == -ENOTSUP);
        assert(result == 0 || strstr(message, kv_file_name(file)) || file == KV_FILE_CHECKPOINT_0 ||
               file == KV_FILE_CHECKPOINT_1);
        assert(result == 0 || strstr(message, "offset") || strstr(message, "version"));
        refused[file] += result < 0;
    }
    assert(refused[KV_FILE_SLABS] > 0 && refused[KV_FILE_JOURNAL_0] + refused[KV_FILE_JOURNAL_1] > 0);
    assert(trial(state, message) == 0);
    world_destroy(state);
}

/* A whole file is gone: zeros, or something else. */
static void a_replaced_file_is_refused(void)
{
    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        for (uint32_t garbage = 0; garbage < 2; garbage++) {
            world *state = stored(CALLS_CLOSE);
            char message[KV_MESSAGE_SIZE];
            uint64_t size;
            uint8_t *bytes = kv_sim_bytes(state->sim, file, &size);
            int result;

            if (garbage)
                model_value_fill(3, file, bytes, (uint32_t)size);
            else
                memset(bytes, 0, size);
            result = trial(state, message);
            /* The older one of two is not needed. Nothing but a superblock says that there is a store. */
            assert(result == 0 || result == -EBADMSG || (result == -ENOENT && file == KV_FILE_SUPERBLOCK));
            assert(result != 0 || file >= KV_FILE_JOURNAL_0);
            world_destroy(state);
        }
}

static void header_change(world *state, kv_file file, uint32_t page, uint32_t offset, uint8_t mask)
{
    uint64_t size;
    uint8_t *bytes = kv_sim_bytes(state->sim, file, &size) + page * 4096;
    uint32_t checksum;

    bytes[offset] ^= mask;
    checksum = kv_checksum(0, bytes, 4092);
    memcpy(bytes + 4092, &checksum, sizeof(checksum));
}

static void other_versions_and_other_stores_are_named(void)
{
    static const kv_file files[] = {KV_FILE_SLABS, KV_FILE_CHECKPOINT_0, KV_FILE_CHECKPOINT_1};
    char message[KV_MESSAGE_SIZE];

    for (uint32_t i = 0; i < 3; i++) {
        world *state = stored(CALLS_CLOSE);

        header_change(state, files[i], 0, 8, 6);
        assert(trial(state, message) == -ENOTSUP && strstr(message, "version"));
        header_change(state, files[i], 0, 8, 6);
        header_change(state, files[i], 0, 20, 1);
        assert(trial(state, message) == -EBADMSG && strstr(message, "another store"));
        header_change(state, files[i], 0, 20, 1);
        header_change(state, KV_FILE_SUPERBLOCK, 0, 8, 3);
        header_change(state, KV_FILE_SUPERBLOCK, 1, 8, 3);
        assert(trial(state, message) == -ENOTSUP && strstr(message, "version 1"));
        world_destroy(state);
    }
}

/* Opening and dying again before the superblock says so is no damage. */
static void a_crash_right_after_the_first_record_of_a_run_is_no_damage(void)
{
    for (uint32_t at = 1; at < 24; at++) {
        world *state = stored(CALLS_CLOSE);
        char message[KV_MESSAGE_SIZE] = "";

        kv_sim_cut_at_event(state->sim, kv_sim_events(state->sim) + at);
        calls_try_open(state, message);
        calls_stop(state, at % 2 ? CALLS_KILL : CALLS_POWER);
        kv_sim_cut_at_event(state->sim, 0);
        assert(trial(state, message) == 0);
        world_destroy(state);
    }
}

/* Leave of the only copy of a superblock what a power cut within its write may leave. False: there
 * is not exactly one. */
static bool superblock_tear(world *state)
{
    uint64_t size;
    uint8_t *bytes = kv_sim_bytes(state->sim, KV_FILE_SUPERBLOCK, &size);
    uint32_t zeros = 0;

    while (zeros < size && bytes[zeros] == 0)
        zeros++;
    if (size != 2 * 4096 || zeros != 4096)
        return false;
    memset(bytes + 4096, 0, 512);
    return true;
}

static void a_store_whose_making_was_torn_is_made_anew(void)
{
    uint32_t torn = 0;
    uint32_t made = 0;

    for (uint32_t at = 1; at < 40; at++) {
        kv_sim_options sim = {.seed = at, .space_max = 256u << 20};
        char message[KV_MESSAGE_SIZE] = "";
        world *state = world_create(at, &calls_options, &sim);
        int result = 0;

        kv_sim_cut_at_event(state->sim, at);
        calls_try_open(state, message);
        calls_stop(state, CALLS_POWER);
        kv_sim_cut_at_event(state->sim, 0);
        if (superblock_tear(state)) {
            torn++;
            result = calls_try_open(state, message);
            made += result == 0;
            assert(result == 0 || (result == -EBADMSG && strstr(message, "in use")));
            if (result < 0)
                state->device->operations->close(state->device);
        }
        world_destroy(state);
    }
    assert(made > 0 && made < torn);
}

int main(void)
{
    any_device_operation_may_fail();
    a_failed_write_is_its_keys_error();
    a_failed_journal_takes_the_store_offline();
    a_failed_write_of_an_answered_value_takes_the_store_offline();
    a_checkpoint_whose_flush_failed_is_not_tried_again();
    rotten_values_are_told_and_never_returned();
    a_value_is_read_twice_before_it_counts_as_corrupt();
    rotten_metadata_is_refused_or_harmless(CALLS_CLOSE);
    rotten_metadata_is_refused_or_harmless(CALLS_KILL);
    rotten_metadata_is_refused_or_harmless(CALLS_POWER);
    a_replaced_file_is_refused();
    other_versions_and_other_stores_are_named();
    a_crash_right_after_the_first_record_of_a_run_is_no_damage();
    a_store_whose_making_was_torn_is_made_anew();
    return 0;
}
