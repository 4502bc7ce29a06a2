/* Columns of forwards: random updates go round, damaged ones are refused or
 * decode to a view that is consistent and encodes to the same bytes, each rule of the layout is
 * enforced, and one of each has the bytes it always had. */

#include "protocol/forward.h"

#include "bytes/endian.h"
#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 2000
#define DAMAGE_ROUNDS 12
#define KEY_ROOM (64u << 10)
#define LARGEST_COUNT 480u /* as many of the largest keys as fit one reply of a node */

typedef struct update {
    kv_wire_forward forward;
    kv_forward_item items[KV_MESSAGE_COUNT_MAX];
    uint64_t keys_size;
    kv_message_head head;
    uint8_t *columns; /* exactly as large as they are, so that a sanitizer sees reads beyond */
} update;

static update drawn, second;
static uint8_t key_bytes[KEY_ROOM];

static const struct {
    uint32_t forward;
    uint32_t operation;
} shapes[] = {
    {KV_FORWARD_UPDATE, KV_OP_SET}, {KV_FORWARD_UPDATE, KV_OP_DELETE},
    {KV_FORWARD_UPDATE, KV_OP_PIN}, {KV_FORWARD_UPDATE, KV_OP_UNPIN},
    {KV_FORWARD_SYNC, KV_OP_SET},   {KV_FORWARD_SYNC, KV_OP_DELETE},
    {KV_FORWARD_COMPARE, 0},        {KV_FORWARD_SYNCED, 0},
    {KV_FORWARD_MOVE, KV_OP_SET},   {KV_FORWARD_MOVE, KV_OP_DELETE},
    {KV_FORWARD_SPACE, 0},
};
#define SHAPE_COUNT (sizeof(shapes) / sizeof(shapes[0]))

static void item_of(void *context, uint32_t i, kv_forward_item *item)
{
    *item = ((const update *)context)->items[i];
}

/* Encode into memory of exactly the size that was announced. */
static void update_encode(update *all)
{
    uint32_t size = kv_forward_columns_size(all->forward.count, all->keys_size);
    bool set = all->forward.operation == KV_OP_SET;

    assert(size != UINT32_MAX);
    all->columns = malloc(size);
    assert(all->columns != NULL);
    assert(kv_forward_encode(&all->forward, item_of, all, all->columns) == size);
    all->head = (kv_message_head){.version = KV_PROTOCOL_VERSION_MAX,
                                  .kind = KV_MESSAGE_FORWARD,
                                  .count = all->forward.count,
                                  .columns_size = size};
    for (uint32_t i = 0; set && i < all->forward.count; i++)
        if (all->items[i].status == KV_OK)
            all->head.values_size += all->items[i].value_size;
    assert(kv_message_verify(all->columns, size) == 0);
}

static bool has_items(uint32_t forward)
{
    return forward != KV_FORWARD_SYNCED && forward != KV_FORWARD_SPACE;
}

/* Everything a field may hold, also what the shape does not have: it is to be written as 0. */
static void update_draw(update *all, uint32_t count_max, uint32_t key_size_max, kv_random *random)
{
    size_t shape = kv_random_below(random, SHAPE_COUNT);
    bool sync = shapes[shape].forward == KV_FORWARD_SYNC ||
                shapes[shape].forward == KV_FORWARD_MOVE;
    bool refusable = sync || shapes[shape].forward == KV_FORWARD_UPDATE;

    all->forward = (kv_wire_forward){
        .forward = shapes[shape].forward,
        .operation = shapes[shape].operation,
        .flags = refusable && kv_random_one_in(random, 2) ? KV_FORWARD_CAREFUL : 0,
        .target = (uint32_t)kv_random_next(random),
        .chain_version = kv_random_next(random),
        .ttl_ms = kv_random_next(random),
        .channel = (uint32_t)kv_random_next(random),
        .sequence = kv_random_next(random) | 1,
    };
    if (kv_random_one_in(random, 2))
        kv_random_fill(random, all->forward.client, KV_CLIENT_ID_SIZE);
    if (has_items(all->forward.forward))
        all->forward.count = 1 + (uint32_t)kv_random_below(random, count_max);
    all->keys_size = 0;
    for (uint32_t i = 0; i < all->forward.count; i++) {
        kv_forward_item *item = &all->items[i];

        *item = (kv_forward_item){
            .key = key_bytes + kv_random_below(random, KEY_ROOM - KV_STORED_KEY_SIZE_MAX),
            .key_size = 1 + (uint32_t)kv_random_below(random, key_size_max),
            .value_size = (uint32_t)kv_random_below(random, 10000),
            .checksum = (uint32_t)kv_random_next(random),
            .flags = sync ? (uint32_t)kv_random_below(random, 2) : 0,
            .expiry_ms = kv_random_next(random),
            .version = kv_random_next(random),
            .status = refusable && kv_random_one_in(random, 3)
                          ? (uint8_t)kv_random_below(random, KV_DIRTY + 1)
                          : KV_OK,
        };
        all->keys_size += item->key_size;
    }
    update_encode(all);
}

/* One whose bytes are the same everywhere. */
static void update_small(update *all, uint32_t forward, uint32_t operation)
{
    bool set = operation == KV_OP_SET;

    all->forward = (kv_wire_forward){.forward = forward, .operation = operation, .target = 7,
                                     .chain_version = 9, .count = 2, .ttl_ms = 500, .channel = 3,
                                     .sequence = 11, .client = "0123456789abcde"};
    if (!has_items(forward))
        all->forward.count = 0;
    all->items[0] = (kv_forward_item){.key = (const uint8_t *)"abc", .key_size = 3,
                                      .value_size = 5, .checksum = 0x11223344,
                                      .expiry_ms = 77, .version = 99};
    all->items[1] = (kv_forward_item){.key = (const uint8_t *)"de", .key_size = 2,
                                      .value_size = set ? 6 : 0, .checksum = 0x55667788,
                                      .expiry_ms = 78, .version = 100};
    if (forward == KV_FORWARD_SYNC)
        all->items[0].flags = KV_ITEM_PINNED;
    if (forward == KV_FORWARD_UPDATE)
        all->items[1].status = KV_EXISTS;
    all->keys_size = has_items(forward) ? 5 : 0;
    update_encode(all);
    all->items[0].flags = 0;
}

/* Everything the view shows lies in the columns and encodes to the bytes it came from. */
static void expect_consistent(const kv_message_head *head, const uint8_t *columns,
                              const kv_wire_forward *view)
{
    uint32_t key_offset = 0;

    second.forward = *view;
    second.keys_size = view->keys_size;
    for (uint32_t i = 0; i < view->count; i++) {
        kv_forward_item_at(view, i, key_offset, &second.items[i]);
        key_offset += second.items[i].key_size;
    }
    assert(key_offset == view->keys_size);
    assert(view->keys + key_offset == columns + head->columns_size);
    update_encode(&second);
    assert(second.head.columns_size == head->columns_size);
    assert(second.head.values_size == head->values_size);
    assert(memcmp(second.columns + 4, columns + 4, head->columns_size - 4) == 0);
    free(second.columns);
}

static void expect_same(const update *all, const kv_wire_forward *view)
{
    static const uint8_t nobody[KV_CLIENT_ID_SIZE];
    const kv_wire_forward *said = &all->forward;
    bool update_kind = said->forward == KV_FORWARD_UPDATE;
    bool set = said->operation == KV_OP_SET;
    bool named = update_kind && memcmp(said->client, nobody, sizeof(nobody)) != 0;
    uint32_t key_offset = 0;

    assert(view->forward == said->forward && view->operation == said->operation);
    assert(view->target == said->target && view->flags == said->flags);
    assert(view->chain_version == said->chain_version && view->count == said->count);
    assert(view->ttl_ms == (update_kind && set ? said->ttl_ms : 0));
    assert(memcmp(view->client, named ? said->client : nobody, sizeof(nobody)) == 0);
    assert(view->channel == (named ? said->channel : 0));
    assert(view->sequence == (named ? said->sequence : 0));
    for (uint32_t i = 0; i < view->count; i++) {
        const kv_forward_item *from = &all->items[i];
        bool whole = set && from->status == KV_OK;
        kv_forward_item item;

        kv_forward_item_at(view, i, key_offset, &item);
        assert(item.key_size == from->key_size && item.version == from->version);
        assert(memcmp(item.key, from->key, item.key_size) == 0);
        assert(item.status == from->status);
        assert(item.value_size == (whole ? from->value_size : 0));
        assert(item.checksum == (whole ? from->checksum : 0));
        assert(item.expiry_ms == (whole ? from->expiry_ms : 0));
        assert(item.flags == (whole ? from->flags : 0));
        key_offset += item.key_size;
    }
}

static void random_updates_go_round(void)
{
    kv_random random;
    kv_wire_forward view;

    kv_random_init(&random, 1);
    kv_random_fill(&random, key_bytes, sizeof(key_bytes));
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t count_max = kv_random_one_in(&random, 50) ? KV_MESSAGE_COUNT_MAX : 100;

        update_draw(&drawn, count_max, 128, &random);
        assert(kv_forward_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
        expect_same(&drawn, &view);
        expect_consistent(&drawn.head, drawn.columns, &view);
        free(drawn.columns);
    }
}

static void the_largest_keys_and_values_fit(void)
{
    kv_wire_forward view;

    update_small(&drawn, KV_FORWARD_SYNC, KV_OP_SET);
    free(drawn.columns);
    drawn.forward.count = LARGEST_COUNT;
    for (uint32_t i = 0; i < LARGEST_COUNT; i++)
        drawn.items[i] = (kv_forward_item){.key = key_bytes + i,
                                           .key_size = KV_STORED_KEY_SIZE_MAX};
    drawn.items[1].value_size = KV_VALUE_SIZE_LIMIT;
    drawn.keys_size = LARGEST_COUNT * KV_STORED_KEY_SIZE_MAX;
    update_encode(&drawn);
    assert(kv_forward_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
    expect_consistent(&drawn.head, drawn.columns, &view);
    free(drawn.columns);
}

static void columns_beyond_the_limit_have_no_size(void)
{
    uint32_t room = KV_MESSAGE_FORWARD_SIZE_MAX - 64 - 31;

    assert(kv_forward_columns_size(1, room) == KV_MESSAGE_FORWARD_SIZE_MAX);
    assert(kv_forward_columns_size(1, room + 1) == UINT32_MAX);
    assert(kv_forward_columns_size(1, UINT64_MAX) == UINT32_MAX);
    assert(kv_forward_columns_size(KV_MESSAGE_COUNT_MAX + 1, 0) == UINT32_MAX);
    assert(kv_forward_columns_size(UINT32_MAX, 0) == UINT32_MAX);
}

static void every_truncation_is_refused(void)
{
    kv_random random;
    kv_wire_forward view;

    kv_random_init(&random, 2);
    for (int round = 0; round < DAMAGE_ROUNDS; round++) {
        update_draw(&drawn, 20, 40, &random);
        for (uint32_t size = 0; size < drawn.head.columns_size; size++) {
            kv_message_head head = drawn.head;
            uint8_t *cut = malloc(size + 1);

            assert(cut != NULL);
            /* Behind its last byte there is nothing to read. */
            memcpy(cut + 1, drawn.columns, size);
            head.columns_size = size;
            assert(kv_forward_decode(&head, cut + 1, &view, NULL) == -EBADMSG);
            free(cut);
        }
        free(drawn.columns);
    }
}

static void every_damaged_byte_is_refused_or_means_another_update(void)
{
    static char message[KV_MESSAGE_SIZE];
    kv_random random;
    kv_wire_forward view;

    kv_random_init(&random, 3);
    for (int round = 0; round < DAMAGE_ROUNDS; round++) {
        update_draw(&drawn, 6, 20, &random);
        for (uint32_t at = 0; at < drawn.head.columns_size; at++)
            for (int flip = 1; flip < 256; flip += 1 + (int)kv_random_below(&random, 16)) {
                int result;

                drawn.columns[at] ^= (uint8_t)flip;
                message[0] = '\0';
                result = kv_forward_decode(&drawn.head, drawn.columns, &view, message);
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
    uint32_t forward;
    uint32_t operation;
    int at;
    int width;
    uint64_t value;
    int error;
} wrong;

static void a_question_of_space_is_unknown_to_version_1(void)
{
    update all = {.forward = {.forward = KV_FORWARD_SPACE, .chain_version = 9}};
    char message[KV_MESSAGE_SIZE];
    kv_wire_forward view;

    update_encode(&all);
    assert(kv_forward_decode(&all.head, all.columns, &view, message) == 0);
    all.head.version = 1;
    assert(kv_forward_decode(&all.head, all.columns, &view, message) == -EOPNOTSUPP);
    assert(strstr(message, "forward 6 is unknown to version 1"));
    free(all.columns);
}

/* Two items: versions at 64, expiries at 80, value sizes at 96, checksums at 104, flags at 112, key
 * sizes at 120, statuses at 124. */
static void each_rule_has_its_reason(void)
{
    static const wrong rules[] = {
        {"forward 0 is unknown", KV_FORWARD_UPDATE, KV_OP_SET, 4, 1, 0, -EOPNOTSUPP},
        {"forward 7 is unknown", KV_FORWARD_UPDATE, KV_OP_SET, 4, 1, 7, -EOPNOTSUPP},
        {"operation 2 is unknown", KV_FORWARD_UPDATE, KV_OP_SET, 5, 1, KV_OP_GET, -EOPNOTSUPP},
        {"operation 7 is unknown", KV_FORWARD_SYNC, KV_OP_SET, 5, 1, KV_OP_PIN, -EOPNOTSUPP},
        {"operation 1 is unknown", KV_FORWARD_COMPARE, 0, 5, 1, KV_OP_SET, -EOPNOTSUPP},
        {"operation 1 is unknown", KV_FORWARD_SYNCED, 0, 5, 1, KV_OP_SET, -EOPNOTSUPP},
        {"operation 1 is unknown", KV_FORWARD_SPACE, 0, 5, 1, KV_OP_SET, -EOPNOTSUPP},
        {"reserved bits of a", KV_FORWARD_UPDATE, KV_OP_SET, 6, 1, 2, -EBADMSG},
        {"reserved bits of a", KV_FORWARD_COMPARE, 0, 6, 1, 1, -EBADMSG},
        {"reserved bits of a", KV_FORWARD_SYNC, KV_OP_DELETE, 6, 1, 2, -EBADMSG},
        {"do not go together", KV_FORWARD_UPDATE, KV_OP_DELETE, 6, 1, 2, -EBADMSG}, /* a client's */
        {"reserved bits of a", KV_FORWARD_UPDATE, KV_OP_SET, 7, 1, 1, -EBADMSG},
        {"reserved bits of a", KV_FORWARD_COMPARE, 0, 20, 4, 1, -EBADMSG},
        {"the ttl of a set", KV_FORWARD_UPDATE, KV_OP_PIN, 32, 8, 1, -EBADMSG},
        {"the ttl of a set", KV_FORWARD_SYNC, KV_OP_SET, 32, 8, 1, -EBADMSG},
        {"names a client", KV_FORWARD_SYNC, KV_OP_SET, 48, 1, 1, -EBADMSG},
        {"names a client", KV_FORWARD_SYNCED, 0, 63, 1, 1, -EBADMSG},
        {"forward 6 has 2 items", KV_FORWARD_COMPARE, 0, 4, 1, 6, -EBADMSG},
        {"do not go together", KV_FORWARD_UPDATE, KV_OP_SET, 40, 8, 0, -EBADMSG},
        {"do not go together", KV_FORWARD_SYNC, KV_OP_SET, 40, 8, 1, -EBADMSG},
        {"do not go together", KV_FORWARD_SYNC, KV_OP_SET, 12, 4, 1, -EBADMSG},
        {"do not hold", KV_FORWARD_UPDATE, KV_OP_SET, 16, 4, 6, -EBADMSG},
        {"do not hold", KV_FORWARD_UPDATE, KV_OP_SET, 16, 4, UINT32_MAX, -EBADMSG},
        {"do not hold", KV_FORWARD_SYNCED, 0, 16, 4, 1, -EBADMSG},
        {"key size 0 of item 0", KV_FORWARD_COMPARE, 0, 120, 2, 0, -EMSGSIZE},
        {"key size 1153 of item 1", KV_FORWARD_COMPARE, 0, 122, 2, 1153, -EMSGSIZE},
        {"add up to 6", KV_FORWARD_COMPARE, 0, 120, 2, 4, -EBADMSG},
        {"item 0 has no status 17", KV_FORWARD_UPDATE, KV_OP_SET, 124, 1, 17, -EBADMSG},
        {"item 1 has no status 1", KV_FORWARD_COMPARE, 0, 125, 1, 1, -EBADMSG},
        {"size 67108865 of item 0", KV_FORWARD_UPDATE, KV_OP_SET, 96, 4, 67108865, -EMSGSIZE},
        {"item 1 is not set", KV_FORWARD_UPDATE, KV_OP_SET, 100, 4, 1, -EBADMSG},
        {"item 1 is not set", KV_FORWARD_UPDATE, KV_OP_SET, 88, 8, 1, -EBADMSG},
        {"item 1 is not set", KV_FORWARD_UPDATE, KV_OP_SET, 108, 4, 1, -EBADMSG},
        {"item 0 is not set", KV_FORWARD_SYNC, KV_OP_DELETE, 112, 4, 1, -EBADMSG},
        {"reserved bits of item 0", KV_FORWARD_UPDATE, KV_OP_SET, 112, 4, 1, -EBADMSG},
        {"reserved bits of item 1", KV_FORWARD_SYNC, KV_OP_SET, 116, 4, 2, -EBADMSG},
        {"add up to 6", KV_FORWARD_UPDATE, KV_OP_SET, 96, 4, 6, -EBADMSG},
    };
    static char message[KV_MESSAGE_SIZE];
    kv_wire_forward view;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        const wrong *rule = &rules[i];

        update_small(&drawn, rule->forward, rule->operation);
        for (int byte = 0; byte < rule->width; byte++)
            drawn.columns[rule->at + byte] = (uint8_t)(rule->value >> 8 * byte);
        assert(kv_forward_decode(&drawn.head, drawn.columns, &view, message) == rule->error);
        assert(strstr(message, rule->words) != NULL);
        free(drawn.columns);
    }
}

static void an_eviction_is_a_delete_of_nobody(void)
{
    kv_wire_forward view;

    update_small(&drawn, KV_FORWARD_UPDATE, KV_OP_DELETE);
    memset(drawn.columns + 48, 0, KV_CLIENT_ID_SIZE);
    memset(drawn.columns + 40, 0, 8);
    memset(drawn.columns + 12, 0, 4);
    drawn.columns[6] = KV_FORWARD_EVICTS;
    assert(kv_forward_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
    assert(view.flags == KV_FORWARD_EVICTS && view.operation == KV_OP_DELETE);
    free(drawn.columns);
}

static void heads_that_do_not_fit_are_refused(void)
{
    kv_wire_forward view;

    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        kv_message_head head;

        update_small(&drawn, shapes[i].forward, shapes[i].operation);
        assert(kv_forward_decode(&drawn.head, drawn.columns, &view, NULL) == 0);
        head = drawn.head;
        head.flags = 1;
        assert(kv_forward_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
        head = drawn.head;
        head.values_size++;
        assert(kv_forward_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
        head = drawn.head;
        for (head.count = 0; head.count <= KV_MESSAGE_COUNT_MAX; head.count++)
            assert(head.count == drawn.head.count ||
                   kv_forward_decode(&head, drawn.columns, &view, NULL) == -EBADMSG);
        free(drawn.columns);
    }
}

static void the_bytes_of_a_set_are_those_that_are_drawn(void)
{
    static const uint8_t expected[] = {
        1,    1,    0,    0,    7,   0,   0,   0,   3,   0,   0,   0,   5,   0,   0,   0,
        0,    0,    0,    0,    9,   0,   0,   0,   0,   0,   0,   0,   0xf4, 1,  0,   0,
        0,    0,    0,    0,    11,  0,   0,   0,   0,   0,   0,   0,   '0', '1', '2', '3',
        '4',  '5',  '6',  '7',  '8', '9', 'a', 'b', 'c', 'd', 'e', 0,   99,  0,   0,   0,
        0,    0,    0,    0,    100, 0,   0,   0,   0,   0,   0,   0,   77,  0,   0,   0,
        0,    0,    0,    0,    0,   0,   0,   0,   0,   0,   0,   0,   5,   0,   0,   0,
        0,    0,    0,    0,    0x44, 0x33, 0x22, 0x11, 0, 0,  0,   0,   0,   0,   0,   0,
        0,    0,    0,    0,    3,   0,   2,   0,   0,   1,   'a', 'b', 'c', 'd', 'e',
    };

    update_small(&drawn, KV_FORWARD_UPDATE, KV_OP_SET);
    assert(drawn.head.columns_size == sizeof(expected) + 4);
    assert(memcmp(drawn.columns + 4, expected, sizeof(expected)) == 0);
    free(drawn.columns);
}

static void each_kind_has_the_bytes_it_always_had(void)
{
    static const uint32_t expected[SHAPE_COUNT] = {
        0x579ec152, 0xf6b28eb9, 0xf66f867c, 0x76e4033d,
        0x89507b4d, 0xa7d28540, 0x5fce5c38, 0x7360e202,
        0x543c06c3, 0xc385b429, 0x9817aab4,
    };

    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        update_small(&drawn, shapes[i].forward, shapes[i].operation);
        assert(kv_endian_load_u32(drawn.columns) == expected[i]);
        free(drawn.columns);
    }
}

int main(void)
{
    random_updates_go_round();
    the_largest_keys_and_values_fit();
    columns_beyond_the_limit_have_no_size();
    every_truncation_is_refused();
    every_damaged_byte_is_refused_or_means_another_update();
    each_rule_has_its_reason();
    a_question_of_space_is_unknown_to_version_1();
    an_eviction_is_a_delete_of_nobody();
    heads_that_do_not_fit_are_refused();
    the_bytes_of_a_set_are_those_that_are_drawn();
    each_kind_has_the_bytes_it_always_had();
    return 0;
}
