/* Columns of requests: random batches go round, damaged ones are refused or decode to a view that is
 * consistent and encodes to the same bytes, each rule of the layout is enforced, and one request of
 * each operation has the bytes it always had. */

#include "protocol/request.h"

#include "bytes/endian.h"
#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 3000
#define DAMAGE_ROUNDS 12
#define KEY_ROOM (KV_MESSAGE_COUNT_MAX * 16u)
#define KEY_SIZE_USUAL_MAX 96u

typedef struct batch {
    kv_wire_request request;
    kv_item items[KV_MESSAGE_COUNT_MAX];
    uint32_t indices[KV_MESSAGE_COUNT_MAX];
    uint32_t checksums[KV_MESSAGE_COUNT_MAX];
    uint64_t keys_size;
    kv_message_head head;
    uint8_t *columns; /* exactly as large as they are, so that a sanitizer sees reads beyond */
} batch;

static batch drawn, second;
static uint8_t key_bytes[KEY_ROOM];

static void batch_scalars(batch *all, uint32_t operation, kv_random *random)
{
    bool updates = kv_request_updates(operation);

    all->request = (kv_wire_request){
        .operation = operation,
        .target = (uint32_t)kv_random_next(random),
        .chain_version = kv_random_next(random),
        .timeout_ms = (uint32_t)kv_random_next(random),
        .ttl_ms = operation == KV_OP_SET ? kv_random_next(random) : 0,
        .if_absent = operation == KV_OP_SET && kv_random_one_in(random, 2),
        .repeated = updates && kv_random_one_in(random, 2),
        .channel = updates ? (uint32_t)kv_random_next(random) : 0,
        .sequence = updates ? kv_random_next(random) | 1 : 0,
    };
}

static void batch_items(batch *all, uint32_t count, uint32_t key_size_max, kv_random *random)
{
    uint64_t values_room = KV_MESSAGE_VALUES_SIZE_MAX;

    all->request.count = count;
    all->keys_size = 0;
    for (uint32_t i = 0; i < count; i++) {
        kv_item *item = &all->items[i];
        uint64_t room = values_room < KV_VALUE_SIZE_LIMIT ? values_room : KV_VALUE_SIZE_LIMIT;

        *item = (kv_item){.key_size = 1 + (uint32_t)kv_random_below(random, key_size_max)};
        item->key = (uint64_t)(uintptr_t)(key_bytes + kv_random_below(random, KEY_ROOM - 1024));
        item->value_size = (uint32_t)kv_random_below(random, room / (1 + i % 7) + 1);
        if (all->request.operation == KV_OP_SET)
            values_room -= item->value_size;
        all->keys_size += item->key_size;
        all->checksums[i] = (uint32_t)kv_random_next(random);
        all->indices[i] = count - 1 - i;
    }
}

/* Encode into memory of exactly the size that was announced. */
static void batch_encode(batch *all)
{
    bool set = all->request.operation == KV_OP_SET;
    uint32_t size =
        kv_request_columns_size(all->request.operation, all->request.count, all->keys_size);

    assert(size != UINT32_MAX);
    all->columns = malloc(size);
    assert(all->columns != NULL);
    assert(kv_request_encode(&all->request, all->items, all->indices, set ? all->checksums : NULL,
                             all->columns) == size);
    all->head = (kv_message_head){.version = 1,
                                  .kind = KV_MESSAGE_REQUEST,
                                  .count = all->request.count,
                                  .columns_size = size};
    for (uint32_t i = 0; set && i < all->request.count; i++)
        all->head.values_size += all->items[i].value_size;
    assert(kv_message_verify(all->columns, size) == 0);
}

static void batch_draw(batch *all, uint32_t count_max, uint32_t key_size_max, kv_random *random)
{
    batch_scalars(all, KV_OP_SET + (uint32_t)kv_random_below(random, KV_OP_UNPIN), random);
    batch_items(all, 1 + (uint32_t)kv_random_below(random, count_max), key_size_max, random);
    batch_encode(all);
}

/* A batch of one operation whose sizes and bytes are the same everywhere. */
static void batch_small(batch *all, uint32_t operation)
{
    bool updates = kv_request_updates(operation);

    all->request = (kv_wire_request){
        .operation = operation, .target = 7, .chain_version = 9, .timeout_ms = 1000, .count = 2,
        .ttl_ms = operation == KV_OP_SET ? 500 : 0, .if_absent = operation == KV_OP_SET,
        .channel = updates ? 3 : 0, .sequence = updates ? 11 : 0, .repeated = updates};
    all->items[0] = (kv_item){.key = (uint64_t)(uintptr_t)"abc", .key_size = 3, .value_size = 5};
    all->items[1] = (kv_item){.key = (uint64_t)(uintptr_t)"de", .key_size = 2, .value_size = 6};
    all->indices[0] = 0;
    all->indices[1] = 1;
    all->checksums[0] = 0x11223344;
    all->checksums[1] = 0x55667788;
    all->keys_size = 5;
    batch_encode(all);
}

static void expect_same_scalars(const kv_wire_request *a, const kv_wire_request *b)
{
    assert(a->operation == b->operation && a->target == b->target);
    assert(a->chain_version == b->chain_version && a->ttl_ms == b->ttl_ms);
    assert(a->timeout_ms == b->timeout_ms && a->if_absent == b->if_absent);
    assert(a->repeated == b->repeated && a->channel == b->channel);
    assert(a->sequence == b->sequence && a->count == b->count);
}

/* Everything the view shows lies in the columns and encodes to the bytes it came from. */
static void expect_consistent(const kv_message_head *head, const uint8_t *columns,
                              const kv_wire_request *view)
{
    const uint8_t *key = view->keys;
    uint64_t values_size = 0;

    second.request = *view;
    second.keys_size = view->keys_size;
    for (uint32_t i = 0; i < view->count; i++) {
        uint32_t size = kv_endian_load_u16(view->key_sizes + (size_t)i * 2);

        second.items[i] = (kv_item){.key = (uint64_t)(uintptr_t)key, .key_size = size};
        second.indices[i] = i;
        if (view->value_sizes)
            second.items[i].value_size = kv_endian_load_u32(view->value_sizes + (size_t)i * 4);
        if (view->checksums)
            second.checksums[i] = kv_endian_load_u32(view->checksums + (size_t)i * 4);
        if (view->operation == KV_OP_SET)
            values_size += second.items[i].value_size;
        key += size;
    }
    assert(key == columns + head->columns_size);
    assert(values_size == head->values_size);
    batch_encode(&second);
    assert(second.head.columns_size == head->columns_size);
    assert(memcmp(second.columns + 4, columns + 4, head->columns_size - 4) == 0);
    free(second.columns);
}

static void random_batches_go_round(void)
{
    kv_random random;
    kv_wire_request view;

    kv_random_init(&random, 1);
    kv_random_fill(&random, key_bytes, sizeof(key_bytes));
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t count_max = kv_random_one_in(&random, 50) ? KV_MESSAGE_COUNT_MAX : 100;

        batch_draw(&drawn, count_max, KEY_SIZE_USUAL_MAX, &random);
        assert(kv_request_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
        expect_same_scalars(&drawn.request, &view);
        expect_consistent(&drawn.head, drawn.columns, &view);
        for (uint32_t i = 0; view.checksums && i < view.count; i++)
            assert(kv_endian_load_u32(view.checksums + (size_t)i * 4) == drawn.checksums[i]);
        free(drawn.columns);
    }
}

static void the_largest_keys_and_values_fit(void)
{
    kv_wire_request view;

    batch_small(&drawn, KV_OP_SET);
    free(drawn.columns);
    drawn.items[0].key = (uint64_t)(uintptr_t)key_bytes;
    drawn.items[0].key_size = KV_KEY_SIZE_LIMIT;
    drawn.items[0].value_size = KV_VALUE_SIZE_LIMIT;
    drawn.keys_size = KV_KEY_SIZE_LIMIT + 2;
    batch_encode(&drawn);
    assert(kv_request_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
    expect_consistent(&drawn.head, drawn.columns, &view);
    free(drawn.columns);
}

static void the_room_of_a_get_is_cut_to_the_largest_value(void)
{
    kv_wire_request view;

    batch_small(&drawn, KV_OP_GET);
    free(drawn.columns);
    drawn.items[1].value_size = UINT32_MAX;
    batch_encode(&drawn);
    assert(kv_request_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
    assert(kv_endian_load_u32(view.value_sizes + 4) == KV_VALUE_SIZE_LIMIT);
    free(drawn.columns);
}

static void columns_beyond_the_limit_have_no_size(void)
{
    uint32_t room = KV_MESSAGE_COLUMNS_SIZE_MAX - 48 - 2;

    assert(kv_request_columns_size(KV_OP_EXISTS, 1, room) == KV_MESSAGE_COLUMNS_SIZE_MAX);
    assert(kv_request_columns_size(KV_OP_EXISTS, 1, room + 1) == UINT32_MAX);
    assert(kv_request_columns_size(KV_OP_EXISTS, 1, UINT64_MAX) == UINT32_MAX);
    assert(kv_request_columns_size(KV_OP_SET, KV_MESSAGE_COUNT_MAX + 1, 0) == UINT32_MAX);
    assert(kv_request_columns_size(KV_OP_SET, UINT32_MAX, 0) == UINT32_MAX);
}

static void every_truncation_is_refused(void)
{
    kv_random random;
    kv_wire_request view;

    kv_random_init(&random, 2);
    for (int round = 0; round < DAMAGE_ROUNDS; round++) {
        batch_draw(&drawn, 20, 40, &random);
        for (uint32_t size = 0; size < drawn.head.columns_size; size++) {
            kv_message_head head = drawn.head;
            uint8_t *cut = malloc(size + 1);

            assert(cut != NULL);
            /* Behind its last byte there is nothing to read. */
            memcpy(cut + 1, drawn.columns, size);
            head.columns_size = size;
            if (size >= 4)
                kv_message_seal(cut + 1, size);
            assert(kv_request_decode(&head, cut + 1, &view, NULL) == -EBADMSG);
            free(cut);
        }
        free(drawn.columns);
    }
}

static void every_damaged_byte_is_refused_or_means_another_request(void)
{
    static char message[KV_MESSAGE_SIZE];
    kv_random random;
    kv_wire_request view;

    kv_random_init(&random, 3);
    for (int round = 0; round < DAMAGE_ROUNDS; round++) {
        batch_draw(&drawn, 6, 20, &random);
        for (uint32_t at = 0; at < drawn.head.columns_size; at++)
            for (int flip = 1; flip < 256; flip += 1 + (int)kv_random_below(&random, 16)) {
                int result;

                drawn.columns[at] ^= (uint8_t)flip;
                assert(kv_message_verify(drawn.columns, drawn.head.columns_size) == -EBADMSG);
                message[0] = '\0';
                result = kv_request_decode(&drawn.head, drawn.columns, &view, message);
                assert(result == 0 || result == -EBADMSG || result == -EMSGSIZE ||
                       result == -EOPNOTSUPP);
                assert((result == 0) == (message[0] == '\0'));
                if (result == 0)
                    expect_consistent(&drawn.head, drawn.columns, &view);
                drawn.columns[at] ^= (uint8_t)flip;
            }
        free(drawn.columns);
    }
}

typedef struct wrong {
    const char *words; /* of the reason */
    uint32_t operation;
    int at;
    int width;
    uint64_t value;
    int error;
} wrong;

static void each_rule_has_its_reason(void)
{
    static const wrong rules[] = {
        {"operation 0 is unknown", KV_OP_GET, 4, 1, 0, -EOPNOTSUPP},
        {"operation 9 is unknown", KV_OP_GET, 4, 1, KV_OP_FLUSH, -EOPNOTSUPP},
        {"reserved", KV_OP_SET, 5, 1, 4, -EBADMSG},
        {"reserved", KV_OP_SET, 6, 2, 1, -EBADMSG},
        {"fields of a set", KV_OP_GET, 5, 1, 1, -EBADMSG},
        {"fields of a set", KV_OP_DELETE, 32, 8, 1, -EBADMSG},
        {"fields of an update", KV_OP_GET, 5, 1, 2, -EBADMSG},
        {"fields of an update", KV_OP_STAT, 16, 4, 1, -EBADMSG},
        {"fields of an update", KV_OP_EXISTS, 40, 8, 1, -EBADMSG},
        {"sequence 0", KV_OP_PIN, 40, 8, 0, -EBADMSG},
        {"do not hold", KV_OP_SET, 20, 4, 6, -EBADMSG},
        {"do not hold", KV_OP_SET, 20, 4, UINT32_MAX, -EBADMSG},
        {"key size 0 of item 0", KV_OP_EXISTS, 48, 2, 0, -EMSGSIZE},
        {"key size 1025 of item 1", KV_OP_EXISTS, 50, 2, 1025, -EMSGSIZE},
        {"add up to 6", KV_OP_EXISTS, 48, 2, 4, -EBADMSG},
        {"value size 67108865 of item 1", KV_OP_SET, 52, 4, 67108865, -EMSGSIZE},
        {"value size 67108865 of item 0", KV_OP_GET, 48, 4, 67108865, -EMSGSIZE},
        {"add up to 12", KV_OP_SET, 48, 4, 6, -EBADMSG},
    };
    static char message[KV_MESSAGE_SIZE];
    kv_wire_request view;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const wrong *rule = &rules[i];

        batch_small(&drawn, rule->operation);
        for (int byte = 0; byte < rule->width; byte++)
            drawn.columns[rule->at + byte] = (uint8_t)(rule->value >> 8 * byte);
        assert(kv_request_decode(&drawn.head, drawn.columns, &view, message) == rule->error);
        assert(strstr(message, rule->words) != NULL);
        free(drawn.columns);
    }
}

static void heads_that_do_not_fit_are_refused(void)
{
    kv_wire_request view;
    kv_message_head head;

    batch_small(&drawn, KV_OP_GET);
    head = drawn.head;
    head.flags = 1;
    assert(kv_request_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
    head = drawn.head;
    head.values_size = 1;
    assert(kv_request_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
    head = drawn.head;
    for (head.count = 0; head.count <= KV_MESSAGE_COUNT_MAX; head.count++)
        assert(head.count == 2 ||
               kv_request_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
    free(drawn.columns);

    batch_small(&drawn, KV_OP_SET);
    head = drawn.head;
    head.values_size = 10;
    assert(kv_request_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
    free(drawn.columns);
}

static void the_bytes_of_a_set_are_those_that_are_drawn(void)
{
    static const uint8_t expected[] = {
        1,    3,    0,    0,    7,    0, 0, 0, 0xe8, 3, 0, 0, 3, 0, 0, 0, 5,    0,    0,    0,
        9,    0,    0,    0,    0,    0, 0, 0, 0xf4, 1, 0, 0, 0, 0, 0, 0, 11,   0,    0,    0,
        0,    0,    0,    0,    5,    0, 0, 0, 6,    0, 0, 0, 0x44, 0x33, 0x22, 0x11,
        0x88, 0x77, 0x66, 0x55, 3,    0, 2, 0, 'a', 'b', 'c', 'd', 'e',
    };

    batch_small(&drawn, KV_OP_SET);
    assert(drawn.head.columns_size == sizeof(expected) + 4);
    assert(memcmp(drawn.columns + 4, expected, sizeof(expected)) == 0);
    free(drawn.columns);
}

static void each_operation_has_the_bytes_it_always_had(void)
{
    static const uint32_t expected[KV_OP_UNPIN + 1] = {
        0,          0x33440f10, 0x058c954a, 0x619651f8, 0x156f640c,
        0x4a563bd9, 0x8298f429, 0xdda1abfc, 0xfd5e337e,
    };

    for (uint32_t operation = KV_OP_SET; operation <= KV_OP_UNPIN; operation++) {
        batch_small(&drawn, operation);
        assert(kv_endian_load_u32(drawn.columns) == expected[operation]);
        free(drawn.columns);
    }
}

int main(void)
{
    random_batches_go_round();
    the_largest_keys_and_values_fit();
    the_room_of_a_get_is_cut_to_the_largest_value();
    columns_beyond_the_limit_have_no_size();
    every_truncation_is_refused();
    every_damaged_byte_is_refused_or_means_another_request();
    each_rule_has_its_reason();
    heads_that_do_not_fit_are_refused();
    the_bytes_of_a_set_are_those_that_are_drawn();
    each_operation_has_the_bytes_it_always_had();
    return 0;
}
