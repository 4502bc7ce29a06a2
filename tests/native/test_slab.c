#include "slab_model.h"

#include <errno.h>

#define SLAB_SIZE (256 * KIB)
#define VALUES_MAX 512

static void illegal_options_are_refused(void)
{
    static const kv_slab_options illegal[] = {
        {3 * MIB, 1, 4096, 4096},
        {16 * KIB, 1, 4096, 4096},
        {128 * MIB, 1, 4096, 4096},
        {MIB, 0, 4096, 4096},
        {64 * MIB, 2 * MIB, 4096, 4096},
        {MIB, 1, 512, 4096},
        {MIB, 1, 0, 4096},
        {MIB, 1, 4096, 2048},
        {MIB, 1, 4096, 256 * KIB},
        {MIB, 1, 64, 0},
    };
    kv_slab_allocator *allocator;

    for (size_t index = 0; index < sizeof(illegal) / sizeof(illegal[0]); index++)
        assert(kv_slab_open(&illegal[index], &allocator) == -EINVAL);
}

static void an_emptied_slab_serves_every_class(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 1, 64);

    for (uint32_t size = 64; size <= SLAB_SIZE / 8; size += 64) {
        kv_extent extent = allocate_one(allocator, size);

        kv_slab_invariants(allocator);
        assert(kv_slab_used_size(allocator) == extent.size);
        kv_slab_free(allocator, &extent);
        kv_slab_invariants(allocator);
        assert(kv_slab_free_size(allocator) == SLAB_SIZE);
    }
    kv_slab_close(allocator);
}

static void a_frozen_slab_gives_no_extents(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 1, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    kv_extent extent = allocate_one(allocator, 4096);

    kv_slab_freeze(allocator, 0);
    kv_slab_freeze(allocator, 0);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_size(allocator) == 0);
    assert(kv_slab_allocate(allocator, 4096, pieces) == -ENOSPC);
    assert(kv_slab_allocate(allocator, 1, pieces) == -ENOSPC);
    kv_slab_thaw(allocator, 0);
    assert(kv_slab_free_size(allocator) == SLAB_SIZE - 4096);
    kv_slab_free(allocator, &extent);
    kv_slab_close(allocator);
}

static void a_frozen_slab_that_becomes_empty_is_free_and_thawed(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 1, 4096);
    kv_extent extent = allocate_one(allocator, 4096);

    kv_slab_freeze(allocator, 0);
    kv_slab_free(allocator, &extent);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_slabs(allocator) == 1);
    kv_slab_thaw(allocator, 0);
    kv_slab_freeze(allocator, 0);
    assert(allocate_one(allocator, 8192).offset == 0);
    kv_slab_close(allocator);
}

static void a_limit_keeps_slabs_from_being_handed_out(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    kv_extent low[2];

    low[0] = allocate_one(allocator, 4096);
    low[1] = allocate_one(allocator, 8192);
    allocate_one(allocator, 16384);
    kv_slab_limit(allocator, 1);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_slabs(allocator) == 0);
    assert(kv_slab_space_size(allocator) == 3 * SLAB_SIZE);
    assert(kv_slab_high_mark(allocator) == 3);

    kv_slab_free(allocator, &low[1]);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_slabs(allocator) == 0);
    assert(kv_slab_allocate_ideal(allocator, 8192, pieces) == -ENOSPC);
    kv_slab_free(allocator, &low[0]);
    assert(kv_slab_free_slabs(allocator) == 1);
    kv_slab_limit(allocator, UINT32_MAX);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_slabs(allocator) == 3);
    assert(kv_slab_space_size(allocator) == 4 * SLAB_SIZE);
    kv_slab_close(allocator);
}

static void a_limit_lowers_the_high_mark_to_what_is_needed(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 8, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    int count;

    allocate_one(allocator, 4096);
    count = kv_slab_allocate(allocator, 6 * SLAB_SIZE, pieces);
    assert(kv_slab_high_mark(allocator) == 7);
    while (count-- > 0)
        kv_slab_free(allocator, &pieces[count]);
    assert(kv_slab_high_mark(allocator) == 7);
    kv_slab_limit(allocator, 3);
    assert(kv_slab_high_mark(allocator) == 3);
    kv_slab_limit(allocator, 0);
    assert(kv_slab_high_mark(allocator) == 1);
    kv_slab_invariants(allocator);
    kv_slab_close(allocator);
}

static void a_reserved_slab_is_kept_back(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];

    kv_slab_reserve(allocator, 1);
    assert(kv_slab_free_size(allocator) == SLAB_SIZE);
    assert(kv_slab_allocate(allocator, SLAB_SIZE, pieces) == 8);
    assert(kv_slab_allocate(allocator, 4096, pieces) == -ENOSPC);
    assert(kv_slab_allocate_pack(allocator, 4096, 64, pieces) == -ENOSPC);
    kv_slab_reserve(allocator, 0);
    assert(kv_slab_allocate_pack(allocator, 4096, 64, pieces) == 0);
    kv_slab_reserve(allocator, 1);
    assert(kv_slab_free_size(allocator) == SLAB_SIZE - 4096);
    kv_slab_close(allocator);
}

static void an_extent_is_found_by_its_offset(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);
    kv_extent extent = allocate_one(allocator, 20000);
    kv_extent group, found;

    kv_slab_extent_at(allocator, extent.offset, 20000, &found);
    assert(found.offset == extent.offset && found.size == extent.size);
    assert(found.slab_class == extent.slab_class);

    assert(kv_slab_allocate_pack(allocator, 8192, 5056, &group) == 0);
    kv_slab_extent_at(allocator, group.offset, 5000, &found);
    assert(found.offset == group.offset && found.size == 5056);
    assert(found.slab_class == KV_SLAB_CLASS_PACK);
    kv_slab_free(allocator, &found);
    assert(kv_slab_free_slabs(allocator) == 1);
    kv_slab_close(allocator);
}

typedef struct stored_value {
    kv_extent *pieces;
    int count;
} stored_value;

typedef struct model_run {
    kv_slab_allocator *allocator;
    kv_slab_options options;
    slab_model model;
    stored_value values[VALUES_MAX];
    uint32_t value_count;
    uint64_t seed;
} model_run;

static void keep(model_run *run, const kv_extent *pieces, int count)
{
    stored_value *value = &run->values[run->value_count++];

    for (int piece = 0; piece < count; piece++)
        slab_model_flip(&run->model, &pieces[piece], 0);
    value->pieces = malloc((size_t)count * sizeof(kv_extent));
    assert(value->pieces);
    memcpy(value->pieces, pieces, (size_t)count * sizeof(kv_extent));
    value->count = count;
}

static uint32_t random_size(model_run *run)
{
    uint32_t log2 = next_random(&run->seed) % 19;

    return 1 + next_random(&run->seed) % (1u << log2);
}

static void step_allocate(model_run *run)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint32_t size = random_size(run);
    uint64_t sum = 0;
    int count;

    if (next_random(&run->seed) % 4)
        count = kv_slab_allocate(run->allocator, size, pieces);
    else
        count = kv_slab_allocate_ideal(run->allocator, size, pieces);
    if (count < 0) {
        assert(count == -ENOSPC);
        return;
    }
    for (int piece = 0; piece < count; piece++) {
        assert(sum < size);
        assert(pieces[piece].offset % run->options.slab_size % pieces[piece].size == 0);
        assert(pieces[piece].size % run->options.alignment == 0);
        sum += pieces[piece].size;
    }
    assert(sum >= size);
    keep(run, pieces, count);
}

/* A group of up to eight values, each of which is freed on its own. */
static void step_allocate_pack(model_run *run)
{
    uint32_t count = 1 + next_random(&run->seed) % 8;
    kv_extent group, value = {.slab_class = KV_SLAB_CLASS_PACK};
    uint32_t sizes[8];
    uint32_t live_size = 0;
    uint32_t size;

    if (run->value_count + count > VALUES_MAX)
        return;
    for (uint32_t index = 0; index < count; index++) {
        sizes[index] = (random_size(run) % 6000 + 64) / 64 * 64;
        live_size += sizes[index];
    }
    size = (live_size + 4095) / 4096 * 4096;
    if (kv_slab_allocate_pack(run->allocator, size, live_size, &group) < 0)
        return;
    value.offset = group.offset;
    for (uint32_t index = 0; index < count; index++) {
        value.size = sizes[index];
        keep(run, &value, 1);
        value.offset += value.size;
    }
}

static void step_free(model_run *run)
{
    uint32_t index;
    stored_value *value;

    if (run->value_count == 0)
        return;
    index = next_random(&run->seed) % run->value_count;
    value = &run->values[index];
    for (int piece = 0; piece < value->count; piece++) {
        slab_model_flip(&run->model, &value->pieces[piece], 1);
        kv_slab_free(run->allocator, &value->pieces[piece]);
    }
    free(value->pieces);
    *value = run->values[--run->value_count];
}

/* The same extents, claimed in another order by a second allocator, give the same space. */
static void step_rebuild(model_run *run)
{
    kv_slab_statistics before[128], after[128];
    kv_slab_allocator *rebuilt;
    int count;

    for (uint32_t slab = 0; slab < run->options.slab_count; slab++)
        kv_slab_thaw(run->allocator, slab);
    assert(kv_slab_open(&run->options, &rebuilt) == 0);
    for (uint32_t index = run->value_count; index-- > 0;) {
        for (int piece = 0; piece < run->values[index].count; piece++)
            assert(kv_slab_claim(rebuilt, &run->values[index].pieces[piece]) == 0);
    }
    kv_slab_claimed(rebuilt);
    kv_slab_invariants(rebuilt);

    count = kv_slab_statistics_by_class(run->allocator, before, 128);
    assert(count == kv_slab_statistics_by_class(rebuilt, after, 128));
    for (int row = 0; row < count; row++) {
        if (before[row].slab_class == KV_SLAB_CLASS_PACK) {
            assert(before[row].free_size <= after[row].free_size);
            before[row].free_size = after[row].free_size;
        }
        assert(memcmp(&before[row], &after[row], sizeof(before[row])) == 0);
    }
    assert(kv_slab_free_slabs(run->allocator) == kv_slab_free_slabs(rebuilt));
    assert(kv_slab_high_mark(rebuilt) <= kv_slab_high_mark(run->allocator));
    kv_slab_close(run->allocator);
    run->allocator = rebuilt;
}

static void totals_match(const model_run *run)
{
    kv_slab_statistics rows[128];
    int count = kv_slab_statistics_by_class(run->allocator, rows, 128);
    uint64_t free_size = kv_slab_free_slabs(run->allocator) * run->options.slab_size;
    uint64_t live_size = 0;

    for (int row = 0; row < count; row++) {
        free_size += rows[row].free_size;
        live_size += rows[row].live_size;
    }
    assert(free_size == kv_slab_free_size(run->allocator));
    assert(live_size == kv_slab_used_size(run->allocator));
    assert(live_size == run->model.live_size);
    kv_slab_invariants(run->allocator);
}

static void random_operations_match_a_byte_map(const kv_slab_options *options, uint64_t seed)
{
    model_run *run = calloc(1, sizeof(*run));
    uint32_t slab;

    run->options = *options;
    run->seed = seed;
    assert(kv_slab_open(options, &run->allocator) == 0);
    run->model = slab_model_open(run->allocator);
    for (int step = 0; step < 3000; step++) {
        uint32_t kind = next_random(&run->seed) % 64;
        /* Phases of growing and of shrinking, so that the space is full and empty at times. */
        bool growing = step / 500 % 2 == 0;

        slab = next_random(&run->seed) % options->slab_count;
        if (kind == 0)
            kv_slab_freeze(run->allocator, slab);
        else if (kind == 1)
            kv_slab_thaw(run->allocator, slab);
        else if (kind == 2 && step % 7 == 0)
            step_rebuild(run);
        else if (kind < (growing ? 20u : 40u) || run->value_count == VALUES_MAX)
            step_free(run);
        else if (kind < 52)
            step_allocate(run);
        else
            step_allocate_pack(run);
        totals_match(run);
    }
    while (run->value_count > 0)
        step_free(run);
    totals_match(run);
    assert(kv_slab_free_slabs(run->allocator) == options->slab_count);
    kv_slab_close(run->allocator);
    free(run->model.units);
    free(run);
}

int main(void)
{
    static const kv_slab_options device = {256 * KIB, 48, 4096, 32 * KIB};
    static const kv_slab_options crowded = {32 * KIB, 100, 4096, 4096};
    static const kv_slab_options memory = {128 * KIB, 40, 64, 10000};

    illegal_options_are_refused();
    an_emptied_slab_serves_every_class();
    a_frozen_slab_gives_no_extents();
    a_frozen_slab_that_becomes_empty_is_free_and_thawed();
    a_limit_keeps_slabs_from_being_handed_out();
    a_limit_lowers_the_high_mark_to_what_is_needed();
    a_reserved_slab_is_kept_back();
    an_extent_is_found_by_its_offset();
    for (uint64_t seed = 1; seed <= 5; seed++) {
        random_operations_match_a_byte_map(&device, seed);
        random_operations_match_a_byte_map(&crowded, seed);
        random_operations_match_a_byte_map(&memory, seed);
    }
}
