/* Which operations share a transfer. */
#include "drivers/io_run.h"

#include <assert.h>

#define PAGE 4096u

static uint8_t memory[2 * (KV_IO_RUN_MAX + 1)][PAGE];

/* Page `page` of the slabs, with memory number `place`. */
static kv_io page_io(kv_io_kind kind, uint64_t page, uint32_t place)
{
    return (kv_io){.kind = kind,
                   .file = KV_FILE_SLABS,
                   .offset = page * PAGE,
                   .size = PAGE,
                   .memory = memory[place]};
}

static void what_continues_a_run_joins_it(void)
{
    kv_io first = page_io(KV_IO_WRITE, 7, 0);
    kv_io second = page_io(KV_IO_WRITE, 8, 5);
    kv_io_run run;

    kv_io_run_begin(&run, &first);
    assert(kv_io_run_extend(&run, &second));
    assert(run.count == 2 && run.size == 2 * PAGE && run.segment_count == 2);
    assert(run.ios[0] == &first && run.ios[1] == &second);
    assert(run.segments[1].iov_base == memory[5] && run.segments[1].iov_len == PAGE);
}

static void contiguous_memory_is_one_segment(void)
{
    kv_io ios[3] = {page_io(KV_IO_READ, 0, 3), page_io(KV_IO_READ, 1, 4), page_io(KV_IO_READ, 2, 1)};
    kv_io_run run;

    kv_io_run_begin(&run, &ios[0]);
    assert(kv_io_run_extend(&run, &ios[1]) && kv_io_run_extend(&run, &ios[2]));
    assert(run.segment_count == 2);
    assert(run.segments[0].iov_base == memory[3] && run.segments[0].iov_len == 2 * PAGE);
    assert(run.segments[1].iov_base == memory[1] && run.segments[1].iov_len == PAGE);
}

static void what_does_not_continue_it_changes_nothing(void)
{
    kv_io first = page_io(KV_IO_READ, 4, 0);
    kv_io others[] = {page_io(KV_IO_READ, 6, 1), page_io(KV_IO_READ, 4, 1), page_io(KV_IO_READ, 3, 1),
                      page_io(KV_IO_WRITE, 5, 1), page_io(KV_IO_READ, 5, 1)};
    kv_io_run run;

    others[4].file = KV_FILE_JOURNAL_0;
    kv_io_run_begin(&run, &first);
    for (uint32_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert(!kv_io_run_extend(&run, &others[i]));
    assert(run.count == 1 && run.size == PAGE && run.segment_count == 1);
}

static void a_run_has_a_greatest_count(void)
{
    kv_io ios[KV_IO_RUN_MAX + 1];
    kv_io_run run;

    for (uint32_t i = 0; i <= KV_IO_RUN_MAX; i++)
        ios[i] = page_io(KV_IO_READ, i, 2 * i);
    kv_io_run_begin(&run, &ios[0]);
    for (uint32_t i = 1; i < KV_IO_RUN_MAX; i++)
        assert(kv_io_run_extend(&run, &ios[i]));
    assert(!kv_io_run_extend(&run, &ios[KV_IO_RUN_MAX]));
    assert(run.count == KV_IO_RUN_MAX && run.segment_count == KV_IO_RUN_MAX);
}

static void a_run_has_a_greatest_size(void)
{
    kv_io half = page_io(KV_IO_WRITE, 0, 0);
    kv_io rest = page_io(KV_IO_WRITE, 0, 2);
    kv_io next = page_io(KV_IO_WRITE, 0, 4);
    kv_io_run run;

    half.size = KV_IO_RUN_SIZE_MAX / 2;
    rest.size = KV_IO_RUN_SIZE_MAX / 2;
    rest.offset = half.size;
    next.offset = KV_IO_RUN_SIZE_MAX;
    kv_io_run_begin(&run, &half);
    assert(kv_io_run_extend(&run, &rest));
    assert(!kv_io_run_extend(&run, &next));
}

static void an_operation_beyond_the_greatest_size_goes_alone(void)
{
    kv_io large = page_io(KV_IO_WRITE, 0, 0);
    kv_io next = page_io(KV_IO_WRITE, 0, 2);
    kv_io_run run;

    large.size = 4 * KV_IO_RUN_SIZE_MAX;
    next.offset = large.size;
    kv_io_run_begin(&run, &large);
    assert(run.size == large.size);
    assert(!kv_io_run_extend(&run, &next));
}

int main(void)
{
    what_continues_a_run_joins_it();
    contiguous_memory_is_one_segment();
    what_does_not_continue_it_changes_nothing();
    a_run_has_a_greatest_count();
    a_run_has_a_greatest_size();
    an_operation_beyond_the_greatest_size_goes_alone();
}
