/* A batch without a network: cut by place and limits, settled item by item, concluded. */

#include "client/batch.h"

#include "bytes/random.h"
#include "client_calls.h"
#include "protocol/request.h"

#include <errno.h>

#define COUNT_MAX 3000u

/* What a cutting emitted. */
typedef struct emitted {
    const kv_batch *batch;
    const kv_route_table *table;
    kv_cut_limits limits;
    uint32_t cuts;
    uint32_t seen[COUNT_MAX];
    int result;
} emitted;

static const kv_cut_names names = {"default", "default"};

static int note(void *context, const kv_cut *cut)
{
    emitted *all = context;
    const kv_request *request = all->batch->request;
    uint64_t size = 0, keys_size = 0;

    all->cuts++;
    assert(cut->count > 0 && cut->count <= all->limits.count);
    for (uint32_t i = 0; i < cut->count; i++) {
        const kv_item *item = &request->items[cut->indices[i]];

        assert(i == 0 || cut->indices[i] > cut->indices[i - 1]);
        assert(kv_route_table_find(all->table, names.tenant, names.name_space,
                                   (const void *)(uintptr_t)item->key,
                                   item->key_size) == cut->chain);
        all->seen[cut->indices[i]]++;
        keys_size += item->key_size;
        size += item->value_size;
    }
    assert(cut->keys_size == keys_size);
    assert(cut->values_size == (request->operation == KV_OP_SET ? size : 0));
    assert(cut->room == (request->operation == KV_OP_GET ? size : 0));
    assert(cut->count == 1 || size <= all->limits.values_size ||
           !kv_batch_moves_values(request->operation));
    assert(cut->count == 1 || kv_request_columns_size(request->operation, cut->count, keys_size) <=
                                  all->limits.columns_size);
    return all->result;
}

static kv_route_table *table_of(uint32_t slot_count)
{
    uint32_t endpoints[4] = {0, 1, 2, 3}, nodes[64], targets[64];
    kv_route_table *table;

    for (uint32_t i = 0; i < slot_count; i++) {
        nodes[i] = i % 4;
        targets[i] = i / 8;
    }
    assert(kv_route_table_open(1, endpoints, 4, nodes, targets, slot_count, &table) == 0);
    return table;
}

static void every_open_item_is_in_one_cut(void)
{
    kv_random random;

    kv_random_init(&random, 42);
    for (int round = 0; round < 60; round++) {
        static const uint32_t operations[] = {KV_OP_SET, KV_OP_GET, KV_OP_EXISTS};
        uint32_t count = 1 + (uint32_t)kv_random_below(&random, round % 2 ? 100 : COUNT_MAX);
        kv_route_table *table = table_of(1u << kv_random_below(&random, 7));
        uint8_t *marks = calloc(count, 1);
        emitted *all = calloc(1, sizeof(*all));
        client_batch calls;
        kv_batch batch;

        assert(marks && all);
        client_batch_open(&calls, operations[round % 3], "b", count,
                          (uint32_t)kv_random_below(&random, 300));
        kv_batch_init(&batch, &calls.request, marks);
        for (uint32_t i = 0; i < count; i++)
            if (kv_random_one_in(&random, 3))
                kv_batch_settle(&batch, i, KV_NOT_FOUND);
        *all = (emitted){.batch = &batch,
                         .table = table,
                         .limits = {1 + (uint32_t)kv_random_below(&random, 200),
                                    1200 + (uint32_t)kv_random_below(&random, 20000),
                                    1 + (uint32_t)kv_random_below(&random, 9000)}};
        assert(kv_batch_cut(&batch, table, &names, &all->limits, NULL, count, note, all) == 0);
        for (uint32_t i = 0; i < count; i++)
            assert(all->seen[i] == (kv_batch_is_open(&batch, i) ? 1 : 0));
        kv_batch_invariants(&batch);
        kv_route_table_release(table);
        client_batch_close(&calls);
        free(all);
        free(marks);
    }
}

static void a_cutting_ends_with_the_first_failure(void)
{
    uint8_t marks[10] = {0};
    emitted all = {.limits = {2, 4000, 4000}, .result = -ENOMEM};
    kv_route_table *table = table_of(1);
    client_batch calls;
    kv_batch batch;

    client_batch_open(&calls, KV_OP_EXISTS, "b", 10, 0);
    kv_batch_init(&batch, &calls.request, marks);
    all.batch = &batch;
    all.table = table;
    assert(kv_batch_cut(&batch, table, &names, &all.limits, NULL, 10, note, &all) == -ENOMEM);
    assert(all.cuts == 1);
    kv_route_table_release(table);
    client_batch_close(&calls);
}

/* Statuses, and what they come to. */
static kv_request conclude(uint32_t operation, const kv_status *statuses, uint32_t count,
                           int32_t *items)
{
    uint8_t marks[8] = {0};
    client_batch calls;
    kv_batch batch;
    kv_request request;

    client_batch_open(&calls, operation, "b", count, 1);
    kv_batch_init(&batch, &calls.request, marks);
    for (uint32_t i = 0; i < count; i++)
        kv_batch_settle(&batch, i, statuses[i]);
    assert(batch.open == 0);
    kv_batch_conclude(&batch);
    request = calls.request;
    for (uint32_t i = 0; i < count; i++)
        items[i] = calls.items[i].status;
    client_batch_close(&calls);
    return request;
}

static void a_prefix_ends_at_the_first_miss(void)
{
    const kv_status statuses[] = {KV_OK, KV_OK, KV_NOT_FOUND, KV_OK, KV_TIMEOUT};
    int32_t items[5];
    kv_request request = conclude(KV_OP_MATCH_PREFIX, statuses, 5, items);

    assert(request.matched == 2 && request.status == KV_OK);
    assert(items[3] == KV_NOT_FOUND && items[4] == KV_NOT_FOUND);
}

static void a_prefix_is_unknown_behind_a_failure(void)
{
    const kv_status statuses[] = {KV_OK, KV_TIMEOUT, KV_NOT_FOUND};
    int32_t items[3];
    kv_request request = conclude(KV_OP_MATCH_PREFIX, statuses, 3, items);

    assert(request.matched == 0 && request.status == KV_TIMEOUT);
}

static void a_failed_key_fails_what_cannot_tell_it(void)
{
    const kv_status statuses[] = {KV_OK, KV_NOT_FOUND, KV_OUTCOME_UNKNOWN};
    int32_t items[3];

    assert(conclude(KV_OP_DELETE, statuses, 3, items).status == KV_OUTCOME_UNKNOWN);
    assert(items[2] == KV_OUTCOME_UNKNOWN);
    assert(conclude(KV_OP_GET, statuses, 3, items).status == KV_OK);
    assert(conclude(KV_OP_EXISTS, statuses, 2, items).status == KV_OK);
}

static void what_no_node_takes_is_settled_at_once(void)
{
    uint8_t marks[2] = {0};
    client_batch calls;
    kv_batch batch;

    client_batch_open(&calls, KV_OP_SET, "b", 2, 1);
    calls.items[1].value_size = KV_VALUE_SIZE_LIMIT + 1;
    kv_batch_init(&batch, &calls.request, marks);
    assert(batch.open == 1 && calls.items[1].status == KV_TOO_LARGE);
    kv_batch_settle_all(&batch, KV_CANCELLED);
    assert(calls.items[0].status == KV_CANCELLED && calls.items[1].status == KV_TOO_LARGE);
    kv_batch_invariants(&batch);
    client_batch_close(&calls);
}

static void flags_of_the_core_are_refused(void)
{
    client_batch calls;

    client_batch_open(&calls, KV_OP_GET, "b", 1, 1);
    assert(kv_batch_check(&calls.request) == 0);
    calls.request.flags = 1;
    assert(kv_batch_check(&calls.request) == -EINVAL);
    client_batch_close(&calls);
}

int main(void)
{
    every_open_item_is_in_one_cut();
    a_cutting_ends_with_the_first_failure();
    a_prefix_ends_at_the_first_miss();
    a_prefix_is_unknown_behind_a_failure();
    a_failed_key_fails_what_cannot_tell_it();
    what_no_node_takes_is_settled_at_once();
    flags_of_the_core_are_refused();
    return 0;
}
