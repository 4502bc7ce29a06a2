/* Going through all objects: listing keys, and verifying values on the device (scrub and check).
 *
 * Both stop anywhere: a cursor names a place in the order of the hashes, and objects whose hashes
 * cannot be told apart there are taken together or left together. */

#include "engine/survey.h"

#include "engine/engine_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIST_HEADER_SIZE 24u
#define VERIFY_BATCH_COUNT 256u

/* Where a visit of a segment stopped: before the run of objects with this fragment of the hash. */
typedef struct stop {
    uint64_t fragment; /* of the run being visited */
    uint64_t before;   /* what had been taken when that run began */
    bool full;
} stop;

#define FRAGMENT_NONE UINT64_MAX

/* Note the object's run; `taken` so far. */
static void stop_note(stop *state, const kv_engine *engine, const kv_object *object, uint64_t taken)
{
    uint64_t fragment = kv_index_hash(engine->index, object->key, object->key_size) >> 32;

    if (fragment == state->fragment)
        return;
    state->fragment = fragment;
    state->before = taken;
}

typedef struct listing {
    const kv_engine *engine;
    stop stop;
    const uint8_t *prefix;
    uint32_t prefix_size;
    uint8_t *buffer;
    uint64_t size;
    uint64_t used;
    uint64_t now_ms;
} listing;

/* {u16 key_size, u16 flags, u32 size, u64 version, u64 expiry_ms, key} */
static void entry_put(uint8_t *target, const kv_object *object, uint16_t flags)
{
    uint16_t key_size = (uint16_t)object->key_size;
    uint32_t size = object->size;
    uint64_t version = kv_object_version_told(object);
    uint64_t expiry_ms = kv_object_expiry_ms(object);

    memcpy(target, &key_size, sizeof(key_size));
    memcpy(target + 2, &flags, sizeof(flags));
    memcpy(target + 4, &size, sizeof(size));
    memcpy(target + 8, &version, sizeof(version));
    memcpy(target + 16, &expiry_ms, sizeof(expiry_ms));
    memcpy(target + LIST_HEADER_SIZE, object->key, key_size);
}

/* Where the object's entry of `size` bytes goes; NULL: it does not fit, and the listing stops before
 * its run. */
static uint8_t *entry_place(listing *state, const kv_object *object, uint64_t size)
{
    uint8_t *place = state->buffer + state->used;

    stop_note(&state->stop, state->engine, object, state->used);
    if (state->used + size > state->size) {
        state->stop.full = true;
        state->used = state->stop.before;
        return NULL;
    }
    state->used += size;
    return place;
}

static void list_object(void *context, kv_object *object)
{
    listing *state = context;
    uint8_t *place;

    if (state->stop.full || kv_object_expired(object, state->now_ms) ||
        object->key_size < state->prefix_size ||
        memcmp(object->key, state->prefix, state->prefix_size) != 0)
        return;
    place = entry_place(state, object, LIST_HEADER_SIZE + object->key_size);
    if (place)
        entry_put(place, object, object->pinned ? KV_ITEM_PINNED : 0);
}

/* {u16 key_size, u16 flags, u32 size, u32 checksum, u64 version, u64 expiry_ms, stored key} */
void kv_stored_entry_put(uint8_t *place, const kv_object *object)
{
    uint16_t key_size = (uint16_t)object->key_size;
    uint16_t flags = object->pinned ? KV_ITEM_PINNED : 0;
    uint32_t size = object->size;
    uint64_t version = kv_object_version(object);
    uint64_t expiry_ms = kv_object_expiry_ms(object);

    memcpy(place, &key_size, sizeof(key_size));
    memcpy(place + 2, &flags, sizeof(flags));
    memcpy(place + 4, &size, sizeof(size));
    memcpy(place + 8, &object->checksum, sizeof(object->checksum));
    memcpy(place + 12, &version, sizeof(version));
    memcpy(place + 20, &expiry_ms, sizeof(expiry_ms));
    memcpy(place + KV_STORED_ENTRY_SIZE, object->key, key_size);
}

static void list_stored_object(void *context, kv_object *object)
{
    listing *state = context;
    uint8_t *place = NULL;

    if (!state->stop.full)
        place = entry_place(state, object, KV_STORED_ENTRY_SIZE + object->key_size);
    if (place)
        kv_stored_entry_put(place, object);
}

/* From the cursor on until the buffer is full or the objects have ended; moves the cursor. */
static int64_t list(kv_engine *engine, uint64_t *cursor, kv_index_visit *visit, listing *state)
{
    bool more = *cursor != UINT64_MAX;

    state->stop.fragment = FRAGMENT_NONE;
    while (more && !state->stop.full) {
        pthread_mutex_lock(&engine->lock);
        more = kv_index_scan(engine->index, cursor, visit, state);
        pthread_mutex_unlock(&engine->lock);
    }
    if (state->stop.full)
        *cursor = state->stop.fragment << 32;
    else
        *cursor = UINT64_MAX;
    return state->stop.full && state->used == 0 ? -(int64_t)ENOBUFS : (int64_t)state->used;
}

int64_t kv_engine_list(kv_engine *engine, uint64_t *cursor, const void *prefix, uint32_t prefix_size,
                       void *buffer, uint64_t size)
{
    listing state = {.engine = engine,
                     .prefix = prefix ? prefix : "",
                     .prefix_size = prefix_size,
                     .buffer = buffer,
                     .size = size,
                     .now_ms = kv_engine_now(engine)};

    return list(engine, cursor, list_object, &state);
}

int64_t kv_engine_list_stored(kv_engine *engine, uint64_t *cursor, void *buffer, uint64_t size)
{
    listing state = {.engine = engine, .buffer = buffer, .size = size};

    return list(engine, cursor, list_stored_object, &state);
}

typedef struct verification {
    kv_engine *engine;
    kv_item *items;
    uint8_t *keys;
    uint32_t count;
    uint32_t capacity;
    uint64_t bytes;     /* of the values noted */
    uint64_t bytes_max; /* to note, unless one value is larger */
    uint64_t empty;     /* objects without a byte to read */
    stop stop;
    int error;
} verification;

static int note_grow(verification *state)
{
    uint32_t capacity = state->capacity * 2 + VERIFY_BATCH_COUNT;
    kv_item *items = realloc(state->items, capacity * sizeof(*items));
    uint8_t *keys = realloc(state->keys, (size_t)capacity * KV_KEY_SIZE_MAX);

    state->items = items ? items : state->items;
    state->keys = keys ? keys : state->keys;
    if (!items || !keys)
        return -ENOMEM;
    state->capacity = capacity;
    return 0;
}

static void note(void *context, kv_object *object)
{
    verification *state = context;

    if (!object->stored || state->stop.full || state->error)
        return;
    stop_note(&state->stop, state->engine, object, state->count);
    if (object->size == 0) {
        state->empty++;
        return;
    }
    if (state->stop.before > 0 && state->bytes >= state->bytes_max) {
        state->stop.full = true;
        state->count = (uint32_t)state->stop.before;
        return;
    }
    if (state->count == state->capacity) {
        state->error = note_grow(state);
        if (state->error)
            return;
    }
    memcpy(state->keys + (size_t)state->count * KV_KEY_SIZE_MAX, object->key, object->key_size);
    state->items[state->count++] = (kv_item){.key_size = object->key_size, .value_size = object->size};
    state->bytes += object->size;
}

/* Bad keys as entries; the bytes used, or -ENOBUFS. */
static int64_t report(const verification *state, uint8_t *buffer, uint64_t size, uint64_t used)
{
    for (uint32_t i = 0; i < state->count; i++) {
        const kv_item *item = &state->items[i];
        uint64_t needed = LIST_HEADER_SIZE + item->key_size;
        uint16_t status = (uint16_t)item->status;
        uint16_t key_size = (uint16_t)item->key_size;

        if (item->status != KV_CORRUPT && item->status != KV_IO_ERROR)
            continue;
        if (used + needed > size)
            return -ENOBUFS;
        memset(buffer + used, 0, LIST_HEADER_SIZE);
        memcpy(buffer + used, &key_size, sizeof(key_size));
        memcpy(buffer + used + 2, &status, sizeof(status));
        memcpy(buffer + used + 4, &item->value_size, sizeof(item->value_size));
        memcpy(buffer + used + LIST_HEADER_SIZE, (const void *)item->key, key_size);
        used += needed;
    }
    return (int64_t)used;
}

static bool is_offline(kv_engine *engine)
{
    bool offline;

    pthread_mutex_lock(&engine->lock);
    offline = engine->offline != 0;
    pthread_mutex_unlock(&engine->lock);
    return offline;
}

static int verify_noted(verification *state, kv_engine_run *run, void *runner)
{
    for (uint32_t i = 0; i < state->count; i++)
        state->items[i].key = (uint64_t)(state->keys + (size_t)i * KV_KEY_SIZE_MAX);
    for (uint32_t i = 0; i < state->count; i += VERIFY_BATCH_COUNT) {
        uint32_t left = state->count - i;
        kv_request request = {.items = state->items + i,
                              .count = left < VERIFY_BATCH_COUNT ? left : VERIFY_BATCH_COUNT,
                              .operation = KV_OP_READ_DEVICE};
        int result = run(runner, &request);

        if (result != 0)
            return result < 0 ? result : -ECANCELED;
    }
    return is_offline(state->engine) ? -ENODEV : 0; /* nothing was read then */
}

/* Note objects from the cursor on, at most a segment, and move the cursor behind them. */
static int note_objects(verification *state, uint64_t *cursor, uint64_t bytes_max)
{
    kv_engine *engine = state->engine;

    state->count = 0;
    state->bytes = 0;
    state->bytes_max = bytes_max;
    state->empty = 0;
    state->stop = (stop){.fragment = FRAGMENT_NONE};
    pthread_mutex_lock(&engine->lock);
    kv_index_scan(engine->index, cursor, note, state);
    pthread_mutex_unlock(&engine->lock);
    if (state->stop.full)
        *cursor = state->stop.fragment << 32;
    return state->error;
}

int64_t kv_engine_verify(kv_engine *engine, uint64_t *cursor, uint64_t bytes_max, void *buffer,
                         uint64_t size, uint64_t *objects, uint64_t *bytes, kv_engine_run *run,
                         void *runner)
{
    verification state = {.engine = engine};
    uint64_t verified = 0;
    int64_t used = 0;
    bool more = *cursor != UINT64_MAX;

    while (more && verified < bytes_max && used >= 0) {
        uint64_t here = *cursor;
        int64_t result = note_objects(&state, cursor, bytes_max - verified);

        if (result == 0)
            result = verify_noted(&state, run, runner);
        if (result == 0)
            result = report(&state, buffer, size, (uint64_t)used);
        if (result < 0) {
            *cursor = here;
            used = result == -ENOBUFS && used > 0 ? used : result;
            break;
        }
        used = result;
        for (uint32_t i = 0; i < state.count; i++)
            verified += state.items[i].value_size;
        *objects += state.count + state.empty;
        more = *cursor != UINT64_MAX;
    }
    *bytes += verified;
    free(state.items);
    free(state.keys);
    return used;
}
