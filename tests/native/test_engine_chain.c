/* What a chain asks of an engine: versions that last as long as their objects, pins and expiries
 * as they were decided elsewhere, the newest state of a key whether it is shown to readers or
 * not, and a list of all that is stored. */

#include "engine_receive.h"

#define BATCH 20u
#define ENTRIES_SIZE 4096u

/* A set of values with versions, as kv_version(7, tag + item + 1). */
static void set_versioned(world *state, uint32_t count, uint32_t tag)
{
    receiving *batch = receiving_create(state, count, tag);

    batch->request.flags = KV_REQUEST_VERSIONED;
    receiving_begin(batch);
    receiving_push_all(batch, 7000);
    receiving_finish(batch);
    for (uint32_t i = 0; i < count; i++)
        assert(batch->items[i].status == KV_OK);
    receiving_end(batch);
}

static kv_item_stat peek(world *state, const char *key)
{
    kv_item_stat stat = {0};
    uint32_t size;

    assert(kv_engine_peek(state->engine, key, (uint32_t)strlen(key), &stat, &size) == 0);
    return stat;
}

static bool is_absent(world *state, const char *key)
{
    kv_item_stat stat;
    uint32_t size;

    return kv_engine_peek(state->engine, key, (uint32_t)strlen(key), &stat, &size) == -ENOENT;
}

/* Everybody tells the same version. */
static void versions_are(world *state, uint32_t count, uint32_t tag)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t version = kv_version(7, tag + i + 1);
        kv_item_stat stat;
        char name[16];
        uint32_t size;

        snprintf(name, sizeof(name), "k%u", i);
        assert(calls_stat(state, name, &stat, &size) == KV_OK && stat.version == version);
        assert(peek(state, name).version == version && peek(state, name).checksum == stat.checksum);
        assert(calls_holds(state, name, tag + i, receiving_size(i)));
    }
}

static void versions_outlive_crashes_checkpoints_and_compactions(void)
{
    for (uint32_t durability = 0; durability < 3; durability++)
        for (calls_end end = CALLS_CLOSE; end <= CALLS_POWER; end++) {
            kv_engine_options options = calls_options;
            char name[16];
            world *state;

            options.durability = durability;
            state = calls_create(&options);
            for (uint32_t i = 0; i < 100; i++) { /* holes for the compaction */
                snprintf(name, sizeof(name), "x%u", i);
                assert(calls_set(state, name, i, 100 + i % 3 * 9000) == KV_OK);
            }
            set_versioned(state, BATCH, 30);
            versions_are(state, BATCH, 30);
            assert(calls_flush(state));
            calls_reopen(state, end);
            versions_are(state, BATCH, 30);
            assert(kv_engine_checkpoint(state->engine) == 0);
            calls_reopen(state, end);
            versions_are(state, BATCH, 30);
            for (uint32_t i = 0; i < 100; i++) {
                snprintf(name, sizeof(name), "x%u", i);
                assert(calls_key(state, KV_OP_DELETE, name) == KV_OK);
            }
            assert(calls_flush(state) && kv_engine_compact(state->engine, 100, world_run, state) >= 0);
            assert(calls_statistics(state).compacted_bytes > 0);
            versions_are(state, BATCH, 30);
            calls_reopen(state, end); /* moves are replayed */
            versions_are(state, BATCH, 30);
            assert(kv_engine_checkpoint(state->engine) == 0);
            calls_reopen(state, end);
            versions_are(state, BATCH, 30);
            world_destroy(state);
        }
}

static void versions_are_63_bits(void)
{
    world *state = calls_create(&calls_options);
    receiving *batch = receiving_create(state, 3, 0);
    const uint64_t versions[3] = {1, (1ull << 63) - 1, kv_version(0x5a5a5a, 0xa5a5a5a5a5)};

    batch->request.flags = KV_REQUEST_VERSIONED;
    for (uint32_t i = 0; i < 3; i++)
        batch->stats[i].version = versions[i];
    receiving_begin(batch);
    receiving_push_all(batch, 100);
    receiving_end(batch);
    for (uint32_t round = 0; round < 2; round++) {
        assert(peek(state, "k0").version == versions[0] && peek(state, "k1").version == versions[1]);
        assert(peek(state, "k2").version == versions[2]);
        assert(kv_engine_version_max(state->engine) == versions[1]);
        calls_reopen(state, CALLS_KILL);
    }
    world_destroy(state);
}

static void an_object_without_a_version_has_its_sequence_told(void)
{
    world *state = calls_create(&calls_options);
    kv_item_stat stat;
    uint32_t size;

    set_versioned(state, 2, 0);
    assert(calls_set(state, "k0", 5, 500) == KV_OK); /* it takes the version with it */
    assert(peek(state, "k0").version == 0);
    assert(calls_stat(state, "k0", &stat, &size) == KV_OK && stat.version == calls_statistics(state).sequence);
    calls_reopen(state, CALLS_KILL);
    assert(peek(state, "k0").version == 0 && peek(state, "k1").version == kv_version(7, 2));
    world_destroy(state);
}

/* Of every object that there is, and of those that were deleted since or before a checkpoint. */
static void the_highest_version_is_known(void)
{
    world *state = calls_create(&calls_options);

    assert(kv_engine_version_max(state->engine) == 0);
    set_versioned(state, 3, 40);
    set_versioned(state, 2, 10); /* lower ones */
    assert(kv_engine_version_max(state->engine) == kv_version(7, 43));
    assert(calls_key(state, KV_OP_DELETE, "k2") == KV_OK);
    calls_reopen(state, CALLS_KILL);
    assert(kv_engine_version_max(state->engine) == kv_version(7, 43));
    assert(kv_engine_checkpoint(state->engine) == 0);
    calls_reopen(state, CALLS_CLOSE);
    assert(kv_engine_version_max(state->engine) == kv_version(7, 43));
    world_destroy(state);
}

static void expiries_and_pins_are_as_they_were_decided(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        kv_engine_options options = calls_options;
        receiving *batch;
        world *state;

        options.durability = durability;
        options.ttl_ms = 50;
        state = calls_create(&options);
        assert(calls_set(state, "k1", 9, 100) == KV_OK && calls_key(state, KV_OP_PIN, "k1") == KV_OK);
        assert(calls_set(state, "k3", 9, 100) == KV_OK && calls_key(state, KV_OP_PIN, "k3") == KV_OK);
        batch = receiving_create(state, 4, 0);
        batch->request.flags = KV_REQUEST_VERSIONED | KV_REQUEST_EXACT;
        batch->request.ttl_ms = 1; /* not looked at */
        batch->stats[0].flags = KV_ITEM_PINNED;
        batch->stats[2].expiry_ms = state->now_ms + 1000;
        batch->stats[3].flags = KV_ITEM_PINNED;
        receiving_begin(batch);
        receiving_push_all(batch, 100);
        receiving_end(batch);
        assert(calls_flush(state));
        for (uint32_t round = 0; round < 2; round++) {
            assert(calls_statistics(state).pinned_objects == 2);
            assert(peek(state, "k0").flags == KV_ITEM_PINNED && peek(state, "k1").flags == 0);
            assert(peek(state, "k3").flags == KV_ITEM_PINNED);
            assert(peek(state, "k1").expiry_ms == 0);
            assert(peek(state, "k2").expiry_ms == state->now_ms + 1000);
            calls_reopen(state, CALLS_KILL);
        }
        state->now_ms += 1000;
        assert(is_absent(state, "k2") && calls_status(state, "k2") == KV_NOT_FOUND);
        set_versioned(state, 2, 50); /* without EXACT the pin of what was there counts */
        assert(peek(state, "k0").flags == KV_ITEM_PINNED && peek(state, "k1").flags == 0);
        world_destroy(state);
    }
}

/* Until its group is written the set is not answered, and a get waits. */
static void a_peek_tells_what_no_reader_is_shown_yet(void)
{
    world *state = calls_create(&calls_options);
    kv_item item = calls_item("key", NULL, 0);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};
    world_client *client;

    assert(is_absent(state, "key"));
    client = calls_begin(state, &request);
    while (is_absent(state, "key")) {
        assert(!client->answered);
        if (!world_step_any(state))
            assert(kv_sim_pump(state->sim, 1) == 1);
    }
    assert(!client->answered);
    calls_finish(state, client);

    request.operation = KV_OP_DELETE;
    client = calls_begin(state, &request);
    while (!is_absent(state, "key"))
        assert(world_step_any(state));
    assert(!client->answered);
    calls_finish(state, client);
    world_destroy(state);
}

typedef struct entry {
    uint16_t key_size;
    uint16_t flags;
    uint32_t size;
    uint32_t checksum;
    uint64_t version;
    uint64_t expiry_ms;
    char key[32];
} entry;

/* The entry at `bytes`; the bytes it takes. */
static uint64_t entry_load(const uint8_t *bytes, entry *found)
{
    memset(found, 0, sizeof(*found));
    memcpy(&found->key_size, bytes, 2);
    memcpy(&found->flags, bytes + 2, 2);
    memcpy(&found->size, bytes + 4, 4);
    memcpy(&found->checksum, bytes + 8, 4);
    memcpy(&found->version, bytes + 12, 8);
    memcpy(&found->expiry_ms, bytes + 20, 8);
    assert(found->key_size < sizeof(found->key));
    memcpy(found->key, bytes + KV_STORED_ENTRY_SIZE, found->key_size);
    return KV_STORED_ENTRY_SIZE + found->key_size;
}

/* Page by page; every entry is what its key holds. */
static uint32_t list_stored(world *state, uint32_t *pages)
{
    static uint8_t buffer[ENTRIES_SIZE];
    uint64_t cursor = 0;
    uint32_t count = 0;

    for (*pages = 0; cursor != UINT64_MAX; (*pages)++) {
        int64_t used = kv_engine_list_stored(state->engine, &cursor, buffer, sizeof(buffer));
        entry found;

        assert(used >= 0 && used <= (int64_t)sizeof(buffer));
        for (int64_t at = 0; at < used; count++) {
            at += (int64_t)entry_load(buffer + at, &found);
            if (found.expiry_ms != 0 && found.expiry_ms <= state->now_ms)
                continue;
            assert(found.version == peek(state, found.key).version);
            assert(found.checksum == peek(state, found.key).checksum);
            assert(found.flags == peek(state, found.key).flags);
        }
    }
    return count;
}

static void everything_stored_is_listed_with_its_version(void)
{
    world *state = calls_create(&calls_options);
    char name[16];
    uint32_t pages;

    assert(list_stored(state, &pages) == 0 && pages == 1);
    for (uint32_t i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "x%u", i);
        assert(calls_put(state, name, calls_value(i, 20), 20, i % 5 ? 0 : 1000, false) == KV_OK);
    }
    set_versioned(state, BATCH, 3);
    assert(calls_key(state, KV_OP_PIN, "k3") == KV_OK && calls_key(state, KV_OP_PIN, "x1") == KV_OK);
    assert(list_stored(state, &pages) == 500 + BATCH && pages > 4);
    state->now_ms += 1000;
    assert(list_stored(state, &pages) == 500 + BATCH && calls_list(state, "") == 400 + BATCH);
    calls_reopen(state, CALLS_KILL);
    assert(list_stored(state, &pages) == 500 + BATCH);
    world_destroy(state);
}

static void a_list_wants_room_for_one_entry(void)
{
    world *state = calls_create(&calls_options);
    uint8_t buffer[KV_STORED_ENTRY_SIZE + 3];
    uint64_t cursor = 0;

    assert(calls_set(state, "key", 1, 10) == KV_OK);
    assert(kv_engine_list_stored(state->engine, &cursor, buffer, sizeof(buffer) - 1) == -ENOBUFS);
    cursor = 0;
    assert(kv_engine_list_stored(state->engine, &cursor, buffer, sizeof(buffer)) == sizeof(buffer));
    assert(cursor == UINT64_MAX);
    world_destroy(state);
}

int main(void)
{
    versions_outlive_crashes_checkpoints_and_compactions();
    versions_are_63_bits();
    an_object_without_a_version_has_its_sequence_told();
    the_highest_version_is_known();
    expiries_and_pins_are_as_they_were_decided();
    a_peek_tells_what_no_reader_is_shown_yet();
    everything_stored_is_listed_with_its_version();
    a_list_wants_room_for_one_entry();
    return 0;
}
