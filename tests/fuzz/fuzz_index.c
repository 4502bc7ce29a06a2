/* Fuzzes the index against an array: the input is a list of operations of three bytes each.
 *
 *   byte 0            1                          3
 *   +-----------------+--------------------------+----
 *   | operation       | number of the key (u16)  | ...
 *   +-----------------+--------------------------+----
 *
 * Spans of keys make segments grow and split; a scan may be in progress meanwhile. */

#include "bytes/endian.h"
#include "engine/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KEY_COUNT 8192u
#define KEY_SIZE_MAX 1024u
#define SPAN_COUNT 1024u
#define SPANS_MAX 10u /* enough to link every key once; they take nearly all the time */
#define OPERATION_SIZE 3u
#define OPERATIONS_MAX 256u
#define SIDE_COUNT 16u
#define SIDE_SIZE_MAX 2048u
#define SEED 0x5eedull

enum {
    OPERATION_LINK,
    OPERATION_LINK_SPAN,
    OPERATION_FIND,
    OPERATION_REPLACE,
    OPERATION_UNLINK,
    OPERATION_UNLINK_SPAN,
    OPERATION_SCAN,
    OPERATION_SIDE,
    OPERATION_COUNT
};

/* What the index must agree with. */
typedef struct index_model {
    kv_index *index;
    kv_object *objects[KEY_COUNT]; /* by number, NULL: not linked */
    bool linked[KEY_COUNT];
    bool stays[KEY_COUNT];   /* linked since this scan began */
    bool visited[KEY_COUNT]; /* in this scan */
    uint64_t count;
    uint64_t stays_count;
    uint64_t stays_visited_count;
    uint64_t cursor;
    uint32_t spans;
    uint32_t sides[SIDE_COUNT];
    size_t side_sizes[SIDE_COUNT];
} index_model;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The number makes the key: two bytes that tell keys apart, then as much filling as it likes. */
static size_t key_of(uint32_t number, uint8_t key[KEY_SIZE_MAX])
{
    size_t size = number % 64 == 63 ? KEY_SIZE_MAX : 2 + number % 37;

    memset(key, (int)(number % 251), size);
    kv_endian_store_u16(key, (uint16_t)number);
    return size;
}

static uint32_t number_of(const kv_object *object)
{
    return kv_endian_load_u16(object->key);
}

static kv_object *find(const index_model *model, uint32_t number, uint64_t *hash)
{
    uint8_t key[KEY_SIZE_MAX];
    size_t size = key_of(number, key);
    kv_object *object;

    *hash = kv_index_hash(model->index, key, size);
    kv_index_prefetch(model->index, *hash);
    object = kv_index_find(model->index, *hash, key, size);
    assert(object == model->objects[number]);
    if (object) {
        assert(object->key_size == size && memcmp(object->key, key, size) == 0);
        assert(kv_index_at(model->index, kv_index_handle(model->index, object)) == object);
    }
    return object;
}

static kv_object *create(const index_model *model, uint32_t number)
{
    uint8_t key[KEY_SIZE_MAX];
    kv_object *object = kv_index_create(model->index, key, key_of(number, key));

    assert(object != NULL && number_of(object) == number);
    assert(object->sequence_low == 0 && object->size == 0 && object->frame == 0);
    return object;
}

static void link_key(index_model *model, uint32_t number)
{
    uint64_t hash;
    kv_object *object = find(model, number, &hash);

    if (object)
        return;
    object = create(model, number);
    assert(kv_index_link(model->index, hash, object) == 0);
    model->objects[number] = object;
    model->linked[number] = true;
    model->count++;
}

static void replace_key(index_model *model, uint32_t number)
{
    uint64_t hash;
    kv_object *old = find(model, number, &hash);

    if (!old)
        return;
    model->objects[number] = create(model, number);
    kv_index_replace(model->index, hash, old, model->objects[number]);
    kv_index_destroy(model->index, old);
}

static void unlink_key(index_model *model, uint32_t number)
{
    uint64_t hash;
    kv_object *object = find(model, number, &hash);

    if (!object)
        return;
    kv_index_unlink(model->index, hash, object);
    kv_index_destroy(model->index, object);
    model->objects[number] = NULL;
    model->linked[number] = false;
    model->count--;
    if (model->stays[number]) {
        model->stays[number] = false;
        model->stays_count--;
        model->stays_visited_count -= model->visited[number];
    }
}

static void for_span(index_model *model, uint32_t number,
                     void (*operation)(index_model *, uint32_t))
{
    if (model->spans++ >= SPANS_MAX)
        return;
    for (uint32_t i = 0; i < SPAN_COUNT; i++)
        operation(model, (number + i) % KEY_COUNT);
}

static void visit(void *context, kv_object *object)
{
    index_model *model = context;
    uint32_t number = number_of(object);

    assert(number < KEY_COUNT && model->objects[number] == object);
    assert(!model->stays[number] || !model->visited[number]);
    model->visited[number] = true;
    model->stays_visited_count += model->stays[number];
}

/* One step; at the end of the scan every key that was there all the time was seen once. Counts
 * instead of loops over all keys, which would take most of the fuzzer's time. */
static bool scan_step(index_model *model)
{
    if (model->cursor == 0) {
        memset(model->visited, 0, sizeof(model->visited));
        memcpy(model->stays, model->linked, sizeof(model->stays));
        model->stays_count = model->count;
        model->stays_visited_count = 0;
    }
    if (kv_index_scan(model->index, &model->cursor, visit, model))
        return true;
    assert(model->stays_visited_count == model->stays_count);
    model->cursor = 0;
    return false;
}

/* A side record is there or not; its bytes are its own as long as it is. */
static void toggle_side(index_model *model, uint32_t number)
{
    uint32_t place = number % SIDE_COUNT;
    size_t size = model->side_sizes[place];
    uint8_t *bytes;

    if (model->sides[place]) {
        bytes = kv_index_side_at(model->index, model->sides[place]);
        for (size_t i = 0; i < size; i++)
            assert(bytes[i] == (uint8_t)place);
        kv_index_side_free(model->index, model->sides[place], size);
        model->sides[place] = 0;
        return;
    }
    size = 1 + number % SIDE_SIZE_MAX;
    model->sides[place] = kv_index_side_allocate(model->index, size);
    assert(model->sides[place] != 0);
    memset(kv_index_side_at(model->index, model->sides[place]), (int)place, size);
    model->side_sizes[place] = size;
}

static void operate(index_model *model, unsigned operation, uint32_t number)
{
    uint64_t hash;

    switch (operation) {
    case OPERATION_LINK: link_key(model, number); break;
    case OPERATION_LINK_SPAN: for_span(model, number, link_key); break;
    case OPERATION_FIND: find(model, number, &hash); break;
    case OPERATION_REPLACE: replace_key(model, number); break;
    case OPERATION_UNLINK: unlink_key(model, number); break;
    case OPERATION_UNLINK_SPAN: for_span(model, number, unlink_key); break;
    case OPERATION_SCAN: scan_step(model); break;
    default: toggle_side(model, number);
    }
    assert(kv_index_count(model->index) == model->count);
}

/* End the scan in progress, if any, then see everything in one that nothing disturbs. */
static void check_everything(index_model *model)
{
    while (model->cursor != 0)
        scan_step(model);
    while (scan_step(model))
        ;
    assert(model->stays_visited_count == model->count);
    assert(kv_index_size(model->index) >= model->count * sizeof(kv_object));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    index_model *model = calloc(1, sizeof(*model));
    size_t count = size / OPERATION_SIZE;

    assert(model != NULL);
    assert(kv_index_open(SEED, &model->index) == 0);
    for (size_t i = 0; i < count && i < OPERATIONS_MAX; i++, data += OPERATION_SIZE)
        operate(model, data[0] % OPERATION_COUNT, kv_endian_load_u16(data + 1) % KEY_COUNT);
    check_everything(model);
    kv_index_close(model->index);
    free(model);
    return 0;
}
