/* Values that rot on the device: remembered when they are found, and replaced by the same bytes. */

#include "engine_calls.h"

#include "bytes/checksum.h"
#include "engine/damage.h"

#define SLABS_START (1u << 20)
#define VALUE_SIZE 5000u

static void rot(world *state, uint32_t at)
{
    kv_sim_flip(state->sim, KV_FILE_SLABS, SLABS_START + at, 4);
}

static int repair(world *state, const char *key, uint32_t tag, uint32_t size)
{
    return kv_engine_repair(state->engine, key, (uint32_t)strlen(key), calls_value(tag, size),
                            size, world_run, state);
}

/* One value, rotten, and nothing of it in the DRAM tier. */
static world *with_rotten(const char *key)
{
    world *state = calls_create(&calls_options);

    assert(calls_set(state, key, 1, VALUE_SIZE) == KV_OK);
    calls_reopen(state, CALLS_CLOSE);
    rot(state, 100);
    return state;
}

static uint32_t listed(world *state, uint8_t *buffer, uint32_t size)
{
    int64_t used = kv_engine_damaged(state->engine, buffer, size);
    uint32_t count = 0;

    assert(used >= 0);
    for (int64_t at = 0; at < used; count++) {
        uint16_t key_size;

        memcpy(&key_size, buffer + at, sizeof(key_size));
        at += KV_STORED_ENTRY_SIZE + key_size;
    }
    return count;
}

static uint32_t damaged(world *state)
{
    uint8_t buffer[4096];

    return listed(state, buffer, sizeof(buffer));
}

static void a_read_finds_the_damage_and_it_is_listed_as_it_is_stored(void)
{
    world *state = with_rotten("k");
    uint32_t checksum = kv_checksum(0, calls_value(1, VALUE_SIZE), VALUE_SIZE);
    uint8_t buffer[64];
    uint32_t told;

    assert(damaged(state) == 0 && kv_engine_damaged_count(state->engine) == 0);
    assert(calls_status(state, "k") == KV_CORRUPT);
    assert(calls_status(state, "k") == KV_CORRUPT);
    assert(kv_engine_damaged_count(state->engine) == 1);
    assert(listed(state, buffer, sizeof(buffer)) == 1);
    memcpy(&told, buffer + 8, sizeof(told));
    assert(told == checksum && buffer[KV_STORED_ENTRY_SIZE] == 'k');
    assert(listed(state, buffer, KV_STORED_ENTRY_SIZE) == 0); /* it does not fit */
    world_destroy(state);
}

static void a_scrub_finds_the_damage(void)
{
    world *state = with_rotten("k");
    uint64_t objects;

    assert(calls_verify(state, &objects) == 1);
    assert(damaged(state) == 1);
    world_destroy(state);
}

static void the_same_bytes_make_it_whole_for_good(void)
{
    world *state = with_rotten("k");
    kv_item_stat before, after;
    uint32_t size;
    uint64_t objects;

    assert(calls_status(state, "k") == KV_CORRUPT);
    assert(calls_stat(state, "k", &before, &size) == KV_OK);
    assert(repair(state, "k", 1, VALUE_SIZE) == 0);
    assert(calls_holds(state, "k", 1, VALUE_SIZE));
    assert(damaged(state) == 0 && calls_verify(state, &objects) == 0);
    assert(calls_stat(state, "k", &after, &size) == KV_OK);
    assert(after.version == before.version && after.checksum == before.checksum);
    calls_reopen(state, CALLS_KILL);
    assert(calls_holds(state, "k", 1, VALUE_SIZE));
    world_destroy(state);
}

static void other_bytes_are_refused(void)
{
    world *state = with_rotten("k");

    assert(calls_status(state, "k") == KV_CORRUPT);
    assert(repair(state, "k", 2, VALUE_SIZE) == -EBADMSG);
    assert(repair(state, "k", 1, VALUE_SIZE - 1) == -EBADMSG);
    assert(calls_status(state, "k") == KV_CORRUPT && damaged(state) == 1);
    world_destroy(state);
}

static void what_is_not_known_to_be_damaged_stays_as_it_is(void)
{
    world *state = with_rotten("k");

    assert(repair(state, "k", 1, VALUE_SIZE) == -ENOENT);
    assert(repair(state, "none", 1, VALUE_SIZE) == -ENOENT);
    world_destroy(state);
}

static void an_object_that_changed_is_not_damaged_any_more(void)
{
    world *state = with_rotten("k");

    assert(calls_status(state, "k") == KV_CORRUPT);
    assert(calls_set(state, "k", 2, VALUE_SIZE) == KV_OK);
    assert(repair(state, "k", 1, VALUE_SIZE) == -ENOENT);
    assert(calls_holds(state, "k", 2, VALUE_SIZE));
    assert(kv_engine_damaged_count(state->engine) == 0);
    world_destroy(state);
}

static void a_deleted_object_is_forgotten(void)
{
    world *state = with_rotten("k");

    assert(calls_status(state, "k") == KV_CORRUPT);
    assert(calls_key(state, KV_OP_DELETE, "k") == KV_OK);
    assert(damaged(state) == 0 && kv_engine_damaged_count(state->engine) == 0);
    world_destroy(state);
}

/* Runs a repair, just after a client has set the key. */
static int run_behind_a_set(void *runner, kv_request *request)
{
    world *state = runner;

    assert(calls_set(state, "k", 2, VALUE_SIZE) == KV_OK);
    return world_run(state, request);
}

static void a_set_while_a_repair_is_under_way_wins(void)
{
    world *state = with_rotten("k");
    static uint8_t value[VALUE_SIZE];

    assert(calls_status(state, "k") == KV_CORRUPT);
    memcpy(value, calls_value(1, VALUE_SIZE), VALUE_SIZE);
    assert(kv_engine_repair(state->engine, "k", 1, value, VALUE_SIZE, run_behind_a_set, state) ==
           -EBADMSG);
    assert(calls_holds(state, "k", 2, VALUE_SIZE) && damaged(state) == 0);
    world_destroy(state);
}

static void more_damage_than_is_remembered_is_found_later(void)
{
    enum { COUNT = KV_DAMAGE_COUNT_MAX + 10 };
    world *state = calls_create(&calls_options);
    static uint8_t buffer[CALLS_LIST_SIZE];
    char keys[COUNT][8];
    uint64_t objects;

    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%u", i);
        assert(calls_set(state, keys[i], i, VALUE_SIZE) == KV_OK);
    }
    calls_reopen(state, CALLS_CLOSE);
    for (uint32_t at = 0; at < 4u << 20; at += 4096)
        rot(state, at);
    assert(calls_verify(state, &objects) == COUNT);
    assert(listed(state, buffer, sizeof(buffer)) == KV_DAMAGE_COUNT_MAX);
    for (uint32_t i = 0; i < COUNT; i++)
        repair(state, keys[i], i, VALUE_SIZE);
    assert(calls_verify(state, &objects) == COUNT - KV_DAMAGE_COUNT_MAX);
    for (uint32_t i = 0; i < COUNT; i++)
        repair(state, keys[i], i, VALUE_SIZE);
    assert(calls_verify(state, &objects) == 0 && damaged(state) == 0);
    world_destroy(state);
}

static void operations_of_the_device_are_watched(void)
{
    world *state = with_rotten("k");
    static uint8_t value[VALUE_SIZE];
    kv_item item = calls_item("k", value, sizeof(value));
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_GET};
    uint64_t oldest_ns, silent_ns;
    world_client *client;

    kv_engine_watch_io(state->engine, 1000, &oldest_ns, &silent_ns);
    assert(oldest_ns == 0 && silent_ns == 0);
    client = calls_begin(state, &request);
    world_step(state, client);
    kv_engine_watch_io(state->engine, 2000, &oldest_ns, &silent_ns);
    assert(oldest_ns == 1000 && silent_ns == 1000);
    calls_finish(state, client);
    kv_engine_watch_io(state->engine, 3000, &oldest_ns, &silent_ns);
    assert(oldest_ns == 0 && silent_ns == 0);
    world_destroy(state);
}

int main(void)
{
    a_read_finds_the_damage_and_it_is_listed_as_it_is_stored();
    a_scrub_finds_the_damage();
    the_same_bytes_make_it_whole_for_good();
    other_bytes_are_refused();
    what_is_not_known_to_be_damaged_stays_as_it_is();
    an_object_that_changed_is_not_damaged_any_more();
    a_deleted_object_is_forgotten();
    a_set_while_a_repair_is_under_way_wins();
    more_damage_than_is_remembered_is_found_later();
    operations_of_the_device_are_watched();
    return 0;
}
