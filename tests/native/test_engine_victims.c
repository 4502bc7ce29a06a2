/* Cache mode where others evict: what the engine offers, what it never gives away by itself, and
 * how sets wait for what is evicted for them. */

#include "engine/format.h"
#include "engine_calls.h"

static const kv_engine_options cache_options = {
    .capacity = 4u << 20,
    .slab_size = 256u << 10,
    .journal_size_max = 1u << 20,
    .journal_step = 64u << 10,
    .durability = KV_DURABILITY_DISK,
    .eviction = KV_EVICTION_CACHE,
};

#define VALUE_SIZE 30000u
#define KEYS_SIZE 65536u

typedef struct chosen {
    kv_victims victims;
    uint8_t keys[KEYS_SIZE];
} chosen;

static uint32_t told;

static void wanted(void *context)
{
    (void)context;
    told++;
}

static const char *name(uint32_t i)
{
    static char names[4][16];
    static uint32_t turn;
    char *text = names[turn++ % 4];

    snprintf(text, 16, "k%u", i);
    return text;
}

static world *shared_create(const kv_engine_options *options)
{
    world *state = calls_create(options);

    kv_engine_set_evicts(state->engine, false);
    kv_engine_set_wanted(state->engine, wanted, NULL);
    told = 0;
    return state;
}

static kv_engine_shortage shortage_of(world *state)
{
    kv_engine_shortage shortage;

    kv_engine_look_shortage(state->engine, &shortage);
    return shortage;
}

static chosen *choose(world *state, uint64_t size, uint64_t count, uint32_t count_max)
{
    chosen *found = calloc(1, sizeof(*found));

    assert(found);
    found->victims = (kv_victims){.size = size, .count = count, .count_max = count_max,
                                  .keys = found->keys, .keys_max = KEYS_SIZE};
    kv_engine_victims(state->engine, &found->victims);
    return found;
}

static bool holds_key(const chosen *found, const char *key)
{
    const uint8_t *at = found->keys;

    for (uint64_t i = 0; i < found->victims.count; i++) {
        uint16_t size;

        memcpy(&size, at, sizeof(size));
        if (size == strlen(key) && memcmp(at + sizeof(size), key, size) == 0)
            return true;
        at += sizeof(size) + size;
    }
    return false;
}

static bool is_victim(world *state, const char *key)
{
    return kv_engine_is_victim(state->engine, key, (uint32_t)strlen(key));
}

static void spare(world *state, const char *key)
{
    kv_engine_spare(state->engine, key, (uint32_t)strlen(key));
}

static int32_t evict(world *state, const char *key)
{
    kv_item item = calls_item(key, NULL, 0);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_DELETE,
                          .flags = KV_REQUEST_EVICTS};

    calls_run(state, &request);
    return item.status;
}

/* Sets until one has to wait, which is returned. Values lie where they are until it is finished. */
static world_client *fill(world *state, uint32_t *count, kv_request *request, kv_item *item)
{
    static uint8_t value[VALUE_SIZE];
    static char key[16];
    world_client *client;

    for (;; (*count)++) {
        snprintf(key, sizeof(key), "k%u", *count);
        model_value_fill(*count, *count, value, VALUE_SIZE);
        *item = calls_item(key, value, VALUE_SIZE);
        *request = (kv_request){.items = item, .count = 1, .operation = KV_OP_SET};
        client = calls_begin(state, request);
        while (!client->finished && world_move(state))
            ;
        if (!client->finished)
            return client;
        assert(item->status == KV_OK);
        world_client_free(client);
    }
}

static void a_set_waits_for_an_eviction(void)
{
    world *state = shared_create(&cache_options);
    uint32_t count = 0;
    kv_request request;
    kv_item item;
    world_client *client = fill(state, &count, &request, &item);
    chosen *found;

    assert(count > 80 && told > 0 && shortage_of(state).waits);
    assert(shortage_of(state).size >= VALUE_SIZE && calls_statistics(state).evictions == 0);
    found = choose(state, VALUE_SIZE, 0, 10);
    assert(found->victims.count >= 1 && found->victims.size >= VALUE_SIZE);
    for (uint32_t i = 0; i < count; i++)
        if (holds_key(found, name(i)))
            assert(evict(state, name(i)) == KV_OK);
    calls_finish(state, client);
    assert(item.status == KV_OK && !shortage_of(state).waits);
    assert(calls_statistics(state).evictions == found->victims.count);
    assert(calls_statistics(state).deletes == 0);
    free(found);
    world_destroy(state);
}

/* Upkeep says that space is short, and leaves it at that. */
static void upkeep_evicts_nothing(void)
{
    world *state = shared_create(&cache_options);
    uint32_t count = 0;
    kv_request request;
    kv_item item;
    world_client *client = fill(state, &count, &request, &item);

    told = 0;
    for (uint32_t i = 0; i < 4; i++) {
        state->now_ms += 1000;
        kv_engine_maintain(state->engine, world_run, state);
    }
    assert(told > 0 && !client->finished && calls_statistics(state).objects == count);
    kv_engine_set_evicts(state->engine, true); /* alone again */
    calls_finish(state, client);
    assert(item.status == KV_OK && calls_statistics(state).evictions > 0);
    assert(shortage_of(state).size == 0);
    world_destroy(state);
}

static void what_is_pinned_is_no_victim(void)
{
    world *state = shared_create(&cache_options);
    chosen *found;

    for (uint32_t i = 0; i < 20; i++)
        assert(calls_set(state, name(i), i, VALUE_SIZE) == KV_OK);
    for (uint32_t i = 0; i < 20; i += 2)
        assert(calls_key(state, KV_OP_PIN, name(i)) == KV_OK);
    found = choose(state, UINT64_MAX, 0, 100);
    assert(found->victims.count == 10);
    for (uint32_t i = 0; i < 20; i++)
        assert(holds_key(found, name(i)) == (i % 2 == 1) && is_victim(state, name(i)) == (i % 2));
    assert(calls_key(state, KV_OP_PIN, name(1)) == KV_OK && !is_victim(state, name(1)));
    free(found);
    world_destroy(state);
}

/* Chosen once, and again only after it was spared; what is set anew is another object. */
static void what_was_chosen_is_not_chosen_again(void)
{
    world *state = shared_create(&cache_options);
    chosen *found[4];

    for (uint32_t i = 0; i < 6; i++)
        assert(calls_set(state, name(i), i, VALUE_SIZE) == KV_OK);
    found[0] = choose(state, 0, 4, 100);
    found[1] = choose(state, UINT64_MAX, 0, 100);
    assert(found[0]->victims.count == 4 && found[1]->victims.count == 2);
    for (uint32_t i = 0; i < 6; i++)
        assert(holds_key(found[0], name(i)) != holds_key(found[1], name(i)));
    assert(calls_set(state, name(0), 7, VALUE_SIZE) == KV_OK && !is_victim(state, name(0)));
    spare(state, name(0));
    spare(state, name(1));
    spare(state, "nobody");
    assert(!is_victim(state, name(1)) && is_victim(state, name(2)));
    found[2] = choose(state, UINT64_MAX, 0, 100);
    assert(found[2]->victims.count == 2);
    assert(holds_key(found[2], name(0)) && holds_key(found[2], name(1)));
    assert(calls_key(state, KV_OP_DELETE, name(2)) == KV_OK && !is_victim(state, name(2)));
    found[3] = choose(state, UINT64_MAX, 0, 100);
    assert(found[3]->victims.count == 0);
    for (uint32_t i = 0; i < 4; i++)
        free(found[i]);
    world_destroy(state);
}

static void victims_fit_what_is_given_for_them(void)
{
    world *state = shared_create(&cache_options);
    chosen *found;

    for (uint32_t i = 0; i < 10; i++)
        assert(calls_set(state, name(i), i, 100) == KV_OK);
    found = choose(state, UINT64_MAX, UINT64_MAX, 3);
    assert(found->victims.count == 3);
    found->victims = (kv_victims){.size = 1, .count_max = 9, .keys = found->keys,
                                  .keys_max = 2 + KV_KEY_SIZE_MAX - 1};
    kv_engine_victims(state->engine, &found->victims);
    assert(found->victims.count == 0);
    free(found);
    world_destroy(state);
}

/* Also when what holds the key has expired: it takes space as before. */
static void what_has_expired_is_evicted(void)
{
    world *state = shared_create(&cache_options);
    kv_item item = calls_item("k", "value", 5);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET, .ttl_ms = 10};
    chosen *found;

    calls_run(state, &request);
    state->now_ms += 1000;
    assert(calls_status(state, "k") == KV_NOT_FOUND);
    found = choose(state, 1, 0, 1);
    assert(found->victims.count == 1 && is_victim(state, "k"));
    assert(calls_key(state, KV_OP_DELETE, "k") == KV_NOT_FOUND);
    assert(evict(state, "k") == KV_OK && calls_statistics(state).objects == 0);
    assert(evict(state, "k") == KV_NOT_FOUND);
    free(found);
    world_destroy(state);
}

/* A limit of objects is kept by waiting, too. */
static void a_set_waits_for_a_place_among_the_objects(void)
{
    kv_engine_options options = cache_options;
    uint32_t count = 0;
    world_client *client;
    kv_request request;
    kv_item item;
    world *state;
    chosen *found;

    options.objects_max = 12;
    state = shared_create(&options);
    client = fill(state, &count, &request, &item);
    assert(count == 12 && shortage_of(state).count > 0 && shortage_of(state).waits);
    found = choose(state, 0, 1, 10);
    assert(found->victims.count == 1);
    for (uint32_t i = 0; i < count; i++)
        if (holds_key(found, name(i)))
            assert(evict(state, name(i)) == KV_OK);
    calls_finish(state, client);
    assert(item.status == KV_OK && calls_statistics(state).objects == 12);
    free(found);
    world_destroy(state);
}

static void waits_end_when_nobody_evicts(void)
{
    world *state = shared_create(&cache_options);
    uint32_t count = 0;
    kv_request request;
    kv_item item;
    world_client *client = fill(state, &count, &request, &item);

    kv_engine_end_waits(state->engine, true); /* it is no copy */
    while (world_move(state))
        ;
    assert(!client->finished);
    kv_engine_end_waits(state->engine, false);
    calls_finish(state, client);
    assert(item.status == KV_NO_SPACE);
    world_destroy(state);
}

int main(void)
{
    a_set_waits_for_an_eviction();
    upkeep_evicts_nothing();
    what_is_pinned_is_no_victim();
    what_was_chosen_is_not_chosen_again();
    victims_fit_what_is_given_for_them();
    what_has_expired_is_evicted();
    a_set_waits_for_a_place_among_the_objects();
    waits_end_when_nobody_evicts();
    return 0;
}
