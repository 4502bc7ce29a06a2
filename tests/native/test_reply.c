/* Columns of replies: random replies go round, damaged ones are refused or decode to a view that is
 * consistent and encodes to the same bytes, each rule of the layout is enforced, and one reply of
 * each operation has the bytes it always had. */

#include "protocol/reply.h"

#include "bytes/endian.h"
#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 3000
#define DAMAGE_ROUNDS 16

typedef struct answer {
    kv_wire_reply reply;
    kv_reply_item items[KV_MESSAGE_COUNT_MAX];
    uint32_t request_count;
    kv_message_head head;
    uint8_t *columns; /* exactly as large as they are, so that a sanitizer sees reads beyond */
} answer;

static answer drawn, second;

static void answer_encode(answer *all)
{
    uint32_t size = kv_reply_columns_size(all->reply.operation, all->reply.count);

    all->columns = malloc(size);
    assert(all->columns != NULL);
    assert(kv_reply_encode(&all->reply, all->items, all->columns) == size);
    all->head.version = 1;
    all->head.kind = KV_MESSAGE_REPLY;
    all->head.count = all->reply.count;
    all->head.columns_size = size;
    all->head.values_size = 0;
    for (uint32_t i = 0; all->reply.operation == KV_OP_GET && i < all->reply.count; i++)
        if (all->items[i].status == KV_OK)
            all->head.values_size += all->items[i].size;
    assert(kv_message_verify(all->columns, size) == 0);
}

/* An item that says no more than its operation and status have. */
static kv_reply_item item_draw(uint32_t operation, uint32_t request_count, kv_random *random)
{
    bool there = kv_random_one_in(random, 2);
    kv_reply_item item = {
        .index = (uint32_t)kv_random_below(random, request_count),
        .status = there ? KV_OK : (int32_t)kv_random_below(random, KV_DIRTY + 1),
    };

    there = item.status == KV_OK;
    if (operation != KV_OP_GET && operation != KV_OP_STAT)
        return item;
    if (there || item.status == KV_BUFFER_TOO_SMALL)
        item.size = (uint32_t)kv_random_below(random, 10000);
    if (there)
        item.checksum = (uint32_t)kv_random_next(random);
    if (there && operation == KV_OP_STAT) {
        item.version = kv_random_next(random);
        item.expiry_ms = kv_random_next(random);
        item.flags = kv_random_one_in(random, 2) ? KV_ITEM_PINNED : 0;
    }
    return item;
}

static void answer_draw(answer *all, uint32_t count_max, kv_random *random)
{
    uint32_t operation = KV_OP_SET + (uint32_t)kv_random_below(random, KV_OP_UNPIN);
    bool last = kv_random_one_in(random, 2);

    all->request_count = 1 + (uint32_t)kv_random_below(random, count_max);
    all->head.flags = last ? KV_REPLY_LAST : 0;
    all->reply = (kv_wire_reply){.operation = operation};
    all->reply.count = 1 + (uint32_t)kv_random_below(random, all->request_count);
    if (last) {
        all->reply.count -= kv_random_one_in(random, 4) ? all->reply.count : 0;
        all->reply.status = (int32_t)kv_random_below(random, KV_DIRTY + 1);
        if (operation == KV_OP_MATCH_PREFIX)
            all->reply.matched = (uint32_t)kv_random_below(random, all->request_count + 1);
    }
    for (uint32_t i = 0; i < all->reply.count; i++)
        all->items[i] = item_draw(operation, all->request_count, random);
    answer_encode(all);
}

static void answer_small(answer *all, uint32_t operation)
{
    all->request_count = 5;
    all->head.flags = KV_REPLY_LAST;
    all->reply = (kv_wire_reply){.operation = operation, .count = 2, .status = KV_TIMEOUT};
    all->reply.matched = operation == KV_OP_MATCH_PREFIX ? 3 : 0;
    all->items[0] = (kv_reply_item){.index = 4, .size = 9, .checksum = 0x11223344, .version = 77,
                                    .expiry_ms = 88, .flags = KV_ITEM_PINNED};
    all->items[1] = (kv_reply_item){.index = 1, .status = KV_NOT_FOUND, .size = 8};
    answer_encode(all);
}

static void expect_consistent(const kv_message_head *head, const uint8_t *columns,
                              uint32_t request_count, const kv_wire_reply *view)
{
    second.reply = *view;
    second.head.flags = head->flags;
    for (uint32_t i = 0; i < view->count; i++) {
        kv_reply_item_at(view, i, &second.items[i]);
        assert(second.items[i].index < request_count);
    }
    assert(view->matched <= request_count);
    answer_encode(&second);
    assert(second.head.columns_size == head->columns_size);
    assert(second.head.values_size == head->values_size);
    assert(memcmp(second.columns + 4, columns + 4, head->columns_size - 4) == 0);
    free(second.columns);
}

static void random_replies_go_round(void)
{
    kv_random random;
    kv_wire_reply view;

    kv_random_init(&random, 1);
    for (int round = 0; round < ROUNDS; round++) {
        answer_draw(&drawn, kv_random_one_in(&random, 50) ? KV_MESSAGE_COUNT_MAX : 100, &random);
        assert(kv_reply_decode(&drawn.head, drawn.columns, drawn.request_count, &view) == 0);
        assert(view.operation == drawn.reply.operation && view.status == drawn.reply.status);
        assert(view.matched == drawn.reply.matched && view.count == drawn.reply.count);
        for (uint32_t i = 0; i < view.count; i++) {
            kv_reply_item item;

            kv_reply_item_at(&view, i, &item);
            assert(memcmp(&item, &drawn.items[i], sizeof(item)) == 0);
        }
        expect_consistent(&drawn.head, drawn.columns, drawn.request_count, &view);
        free(drawn.columns);
    }
}

static void what_an_item_does_not_have_is_not_sent(void)
{
    kv_wire_reply view;
    kv_reply_item item;

    answer_small(&drawn, KV_OP_STAT);
    assert(kv_reply_decode(&drawn.head, drawn.columns, 5, &view) == 0);
    kv_reply_item_at(&view, 1, &item);
    assert(item.index == 1 && item.status == KV_NOT_FOUND && item.size == 0);
    free(drawn.columns);
    answer_small(&drawn, KV_OP_DELETE);
    assert(kv_reply_decode(&drawn.head, drawn.columns, 5, &view) == 0);
    assert(view.sizes == NULL && view.versions == NULL);
    kv_reply_item_at(&view, 0, &item);
    assert(item.index == 4 && item.size == 0 && item.version == 0);
    free(drawn.columns);
}

static void every_truncation_is_refused(void)
{
    kv_random random;
    kv_wire_reply view;

    kv_random_init(&random, 2);
    for (int round = 0; round < DAMAGE_ROUNDS; round++) {
        answer_draw(&drawn, 20, &random);
        for (uint32_t size = 0; size < drawn.head.columns_size; size++) {
            kv_message_head head = drawn.head;
            uint8_t *cut = malloc(size + 1);

            assert(cut != NULL);
            memcpy(cut + 1, drawn.columns, size);
            head.columns_size = size;
            assert(kv_reply_decode(&head, cut + 1, drawn.request_count, &view) == -EBADMSG);
            free(cut);
        }
        free(drawn.columns);
    }
}

static void every_damaged_byte_is_refused_or_means_another_reply(void)
{
    kv_random random;
    kv_wire_reply view;

    kv_random_init(&random, 3);
    for (int round = 0; round < DAMAGE_ROUNDS; round++) {
        answer_draw(&drawn, 6, &random);
        for (uint32_t at = 0; at < drawn.head.columns_size; at++)
            for (int flip = 1; flip < 256; flip += 1 + (int)kv_random_below(&random, 16)) {
                int result;

                drawn.columns[at] ^= (uint8_t)flip;
                assert(kv_message_verify(drawn.columns, drawn.head.columns_size) == -EBADMSG);
                result = kv_reply_decode(&drawn.head, drawn.columns, drawn.request_count, &view);
                assert(result == 0 || result == -EBADMSG);
                if (result == 0)
                    expect_consistent(&drawn.head, drawn.columns, drawn.request_count, &view);
                drawn.columns[at] ^= (uint8_t)flip;
            }
        free(drawn.columns);
    }
}

typedef struct wrong {
    uint32_t operation;
    int at;
    int width;
    uint64_t value;
} wrong;

/* Offsets are those of a reply with two items. */
static void each_rule_is_enforced(void)
{
    static const wrong rules[] = {
        {KV_OP_GET, 4, 1, 0},            /* no operation */
        {KV_OP_GET, 4, 1, KV_OP_FLUSH},  /* no batch */
        {KV_OP_GET, 4, 1, KV_OP_STAT},   /* the size is another */
        {KV_OP_SET, 5, 1, KV_DIRTY + 1}, /* no status */
        {KV_OP_SET, 6, 2, 1},            /* reserved */
        {KV_OP_SET, 12, 4, 1},           /* reserved */
        {KV_OP_SET, 8, 4, 1},            /* nothing to match */
        {KV_OP_MATCH_PREFIX, 8, 4, 6},   /* more than there are keys */
        {KV_OP_SET, 16, 4, 5},           /* an index beyond the request */
        {KV_OP_SET, 16, 4, UINT32_MAX},
        {KV_OP_SET, 24, 1, KV_DIRTY + 1}, /* no status */
        {KV_OP_GET, 24, 4, 10},          /* values do not add up */
        {KV_OP_GET, 28, 4, 1},           /* a size without a value */
        {KV_OP_GET, 36, 4, 1},           /* a checksum without a value */
        {KV_OP_GET, 40, 1, KV_BUSY},     /* no value, yet one follows */
        {KV_OP_STAT, 24, 8, 1},          /* a version of what is not there */
        {KV_OP_STAT, 40, 8, 1},          /* an expiry of what is not there */
        {KV_OP_STAT, 76, 4, 1},          /* flags of what is not there */
        {KV_OP_STAT, 72, 4, 2},          /* an unknown flag */
        {KV_OP_STAT, 56, 4, 67108865},   /* larger than any value */
    };
    kv_wire_reply view;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        answer_small(&drawn, rules[i].operation);
        assert(kv_reply_decode(&drawn.head, drawn.columns, 5, &view) == 0);
        for (int byte = 0; byte < rules[i].width; byte++)
            drawn.columns[rules[i].at + byte] = (uint8_t)(rules[i].value >> 8 * byte);
        assert(kv_reply_decode(&drawn.head, drawn.columns, 5, &view) == -EBADMSG);
        free(drawn.columns);
    }
}

static int decode_with(uint16_t flags, uint32_t values_size, uint32_t request_count)
{
    kv_message_head head = drawn.head;
    kv_wire_reply view;

    head.flags = flags;
    head.values_size = values_size;
    return kv_reply_decode(&head, drawn.columns, request_count, &view);
}

static void heads_that_do_not_fit_are_refused(void)
{
    answer_small(&drawn, KV_OP_GET);
    assert(decode_with(KV_REPLY_LAST, 9, 5) == 0);
    assert(decode_with(KV_REPLY_LAST | 2, 9, 5) == -EBADMSG);
    assert(decode_with(KV_REPLY_LAST, 8, 5) == -EBADMSG);
    assert(decode_with(KV_REPLY_LAST, 9, 4) == -EBADMSG);
    assert(decode_with(KV_REPLY_LAST, 9, 1) == -EBADMSG);
    free(drawn.columns);
    answer_small(&drawn, KV_OP_SET);
    assert(decode_with(KV_REPLY_LAST, 1, 5) == -EBADMSG);
    free(drawn.columns);
}

static void the_whole_is_judged_only_at_the_end(void)
{
    answer_small(&drawn, KV_OP_SET);
    assert(decode_with(0, 0, 5) == -EBADMSG);
    free(drawn.columns);
    drawn.reply.status = KV_OK;
    answer_encode(&drawn);
    assert(decode_with(0, 0, 5) == 0);
    free(drawn.columns);
    drawn.reply.count = 0;
    answer_encode(&drawn);
    assert(decode_with(0, 0, 5) == -EBADMSG);
    assert(decode_with(KV_REPLY_LAST, 0, 5) == 0);
    free(drawn.columns);
}

static void the_bytes_of_a_stat_are_those_that_are_drawn(void)
{
    static const uint8_t expected[] = {
        6, 7, 0, 0, 0, 0, 0, 0, 0,    0,    0,    0,    77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 88, 0, 0, 0, 0, 0, 0,   0,    0,    0,    0,  0, 0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0,
        9, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0,  0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    };

    answer_small(&drawn, KV_OP_STAT);
    assert(drawn.head.columns_size == sizeof(expected) + 4);
    assert(memcmp(drawn.columns + 4, expected, sizeof(expected)) == 0);
    free(drawn.columns);
}

static void each_operation_has_the_bytes_it_always_had(void)
{
    static const uint32_t expected[KV_OP_UNPIN + 1] = {
        0,          0x6034877b, 0x17904c74, 0xd81f5a13, 0x5821a393,
        0x158f4b5a, 0x3e4e7f71, 0xada49632, 0xd756f18d,
    };

    for (uint32_t operation = KV_OP_SET; operation <= KV_OP_UNPIN; operation++) {
        answer_small(&drawn, operation);
        assert(kv_endian_load_u32(drawn.columns) == expected[operation]);
        free(drawn.columns);
    }
}

int main(void)
{
    random_replies_go_round();
    what_an_item_does_not_have_is_not_sent();
    every_truncation_is_refused();
    every_damaged_byte_is_refused_or_means_another_reply();
    each_rule_is_enforced();
    heads_that_do_not_fit_are_refused();
    the_whole_is_judged_only_at_the_end();
    the_bytes_of_a_stat_are_those_that_are_drawn();
    each_operation_has_the_bytes_it_always_had();
    return 0;
}
