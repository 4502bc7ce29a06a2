/* Columns of the replies to forwards: what is said goes round, and what does not fit is refused. */

#include "protocol/forward.h"

#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 2000

static kv_message_head answer_encode(const kv_wire_forwarded *answer, uint8_t *columns)
{
    kv_message_head head = {.version = 1, .kind = KV_MESSAGE_FORWARDED, .count = answer->count};

    head.columns_size = kv_forwarded_encode(answer, columns);
    assert(head.columns_size == kv_forwarded_columns_size(answer->count));
    assert(kv_message_verify(columns, head.columns_size) == 0);
    return head;
}

static void replies_go_round(void)
{
    static uint8_t statuses[KV_MESSAGE_COUNT_MAX];
    kv_random random;

    kv_random_init(&random, 4);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t asked = (uint32_t)kv_random_below(&random, round % 50 ? 40 : KV_MESSAGE_COUNT_MAX);
        kv_wire_forwarded answer = {.status = (int32_t)kv_random_below(&random, KV_DIRTY + 1),
                                    .chain_version = kv_random_next(&random),
                                    .space_free = kv_random_next(&random),
                                    .space_wanted = kv_random_next(&random),
                                    .objects_wanted = kv_random_next(&random),
                                    .statuses = statuses};
        uint8_t *columns = malloc(kv_forwarded_columns_size(asked));
        kv_wire_forwarded view;
        kv_message_head head;

        assert(columns != NULL);
        answer.count = answer.status == KV_OK ? asked : 0;
        for (uint32_t i = 0; i < answer.count; i++)
            statuses[i] = (uint8_t)kv_random_below(&random, KV_DIRTY + 1);
        head = answer_encode(&answer, columns);
        assert(kv_forwarded_decode(&head, columns, asked, &view) == 0);
        assert(view.status == answer.status && view.count == answer.count);
        assert(view.chain_version == answer.chain_version && view.space_free == answer.space_free);
        assert(view.space_wanted == answer.space_wanted);
        assert(view.objects_wanted == answer.objects_wanted);
        assert(memcmp(view.statuses, statuses, view.count) == 0);
        if (answer.status == KV_OK)
            assert(kv_forwarded_decode(&head, columns, asked + 1, &view) == -EBADMSG);
        free(columns);
    }
}

static void replies_that_do_not_fit_are_refused(void)
{
    static const uint8_t statuses[2] = {KV_OK, KV_NO_SPACE};
    static const uint8_t expected[] = {0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
                                       5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0,
                                       0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3};
    kv_wire_forwarded answer = {.count = 2, .chain_version = 9, .space_free = 5,
                                .space_wanted = 6, .objects_wanted = 7,
                                .statuses = statuses};
    uint8_t columns[48] = {0};
    kv_wire_forwarded view;
    kv_message_head head = answer_encode(&answer, columns), other = head;

    assert(head.columns_size == sizeof(expected) + 4);
    assert(memcmp(columns + 4, expected, sizeof(expected)) == 0);
    for (other.columns_size = 0; other.columns_size <= sizeof(columns); other.columns_size++)
        assert((kv_forwarded_decode(&other, columns, 2, &view) == 0) ==
               (other.columns_size == head.columns_size));
    other = head;
    other.flags = 1;
    assert(kv_forwarded_decode(&other, columns, 2, &view) == -EBADMSG);
    for (int at = 5; at < 8; at++) {
        columns[at] = 1;
        assert(kv_forwarded_decode(&head, columns, 2, &view) == -EBADMSG);
        columns[at] = 0;
    }
    columns[41] = KV_DIRTY + 1;
    assert(kv_forwarded_decode(&head, columns, 2, &view) == -EBADMSG);
    columns[41] = KV_OK;
    columns[4] = KV_BUSY; /* says nothing of items */
    assert(kv_forwarded_decode(&head, columns, 2, &view) == -EBADMSG);
    columns[4] = KV_DIRTY + 1;
    assert(kv_forwarded_decode(&head, columns, 2, &view) == -EBADMSG);
}

int main(void)
{
    replies_go_round();
    replies_that_do_not_fit_are_refused();
    return 0;
}
