/* What the real drivers do with bytes and files: the same rules for io_uring, with and without
 * registered memory, and for the pool of threads. */
#include "device_subject.h"

#include "drivers/io_run.h"

#define NEIGHBOURS (3 * KV_IO_RUN_MAX + 5)

#include <signal.h>
#include <sys/resource.h>

#define MODEL_SIZE (2u << 20)
#define OPERATIONS_MAX 400u

static void open_reports_what_is_wrong(const test_subject *subject)
{
    kv_driver_options options = {.directory = subject->directory, .depth = 4, .threads = 4};
    int (*open)(const kv_driver_options *, kv_device **, kv_file *) =
        subject->driver == THREADS ? kv_driver_threads_open : kv_driver_uring_open;
    kv_device *device;
    kv_file bad;

    assert(open(&options, &device, &bad) == -ENOENT && bad == KV_FILE_SUPERBLOCK);
    options.create = true;
    options.depth = options.threads = 0;
    assert(open(&options, &device, &bad) == -EINVAL && bad == KV_FILE_COUNT);
    options.depth = options.threads = KV_DEVICE_DEPTH_MAX + 1;
    assert(open(&options, &device, &bad) == -EINVAL && bad == KV_FILE_COUNT);
    options.depth = options.threads = 4;
    options.directory = "./no-such-directory";
    assert(open(&options, &device, &bad) == -ENOENT && bad == KV_FILE_COUNT);
}

static void what_was_written_is_read(const test_subject *subject)
{
    static const uint32_t sizes[] = {PAGE, 3 * PAGE, 16 * PAGE, 256 * PAGE, 1500 * PAGE};
    kv_device *device = open_of_depth(subject, 8);
    uint8_t *source = memory_of(1500 * PAGE);
    uint8_t *target = memory_of(1500 * PAGE);
    kv_random random;

    kv_random_init(&random, 1);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t offset = kv_random_below(&random, 100) * PAGE;

        kv_random_fill(&random, source, sizes[i]);
        assert(run(device, KV_IO_WRITE, offset, sizes[i], source) == sizes[i]);
        assert(run(device, KV_IO_FLUSH, 0, 0, NULL) == 0);
        memset(target, 0, sizes[i]);
        assert(run(device, KV_IO_READ, offset, sizes[i], target) == sizes[i]);
        assert(memcmp(source, target, sizes[i]) == 0);
    }
    device->operations->close(device);
    free(source);
    free(target);
}

static void files_agree_with_a_model_in_memory(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *model = memory_of(MODEL_SIZE);
    uint8_t *memory = memory_of(MODEL_SIZE);
    kv_random random;

    kv_random_init(&random, 2);
    memset(model, 0, MODEL_SIZE);
    assert(run(device, KV_IO_WRITE, 0, MODEL_SIZE, model) == MODEL_SIZE);
    assert(device->operations->register_memory(device, memory, MODEL_SIZE, 16 * PAGE) <= 0);
    for (int i = 0; i < 300; i++) {
        uint32_t size = (uint32_t)(1 + kv_random_below(&random, 40)) * PAGE;
        uint64_t offset = kv_random_below(&random, (MODEL_SIZE - size) / PAGE + 1) * PAGE;
        uint8_t *place = memory + kv_random_below(&random, (MODEL_SIZE - size) / PAGE + 1) * PAGE;

        if (kv_random_one_in(&random, 2)) {
            kv_random_fill(&random, place, size);
            memcpy(model + offset, place, size);
            assert(run(device, KV_IO_WRITE, offset, size, place) == size);
        } else {
            assert(run(device, KV_IO_READ, offset, size, place) == size);
            assert(memcmp(model + offset, place, size) == 0);
        }
    }
    device->operations->close(device);
    free(model);
    free(memory);
}

static void more_operations_than_the_depth_all_complete(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 3);
    uint8_t *memory = memory_of(OPERATIONS_MAX * PAGE);
    kv_io ios[OPERATIONS_MAX];
    kv_io *batch[OPERATIONS_MAX];
    test_latch latch;

    for (int reading = 0; reading < 2; reading++) {
        latch_init(&latch, OPERATIONS_MAX);
        for (uint32_t i = 0; i < OPERATIONS_MAX; i++) {
            page_fill(memory + i * PAGE, i, (uint64_t)reading);
            ios[i] = (kv_io){.kind = reading ? KV_IO_READ : KV_IO_WRITE,
                             .file = KV_FILE_SLABS,
                             .size = PAGE,
                             .offset = i * PAGE,
                             .memory = memory + i * PAGE,
                             .done = latch_done,
                             .context = &latch};
            batch[i] = &ios[i];
        }
        device->operations->submit(device, batch, OPERATIONS_MAX);
        latch_wait(&latch);
        for (uint32_t i = 0; i < OPERATIONS_MAX; i++) {
            assert(ios[i].result == PAGE);
            page_check(memory + i * PAGE, i, 0);
        }
    }
    device->operations->close(device);
    free(memory);
}

static void every_file_can_be_flushed_at_once(const test_subject *subject)
{
    static const uint32_t masks[] = {1, 2, 1u << (KV_FILE_COUNT - 1), 5, (1u << KV_FILE_COUNT) - 1};
    kv_device *device = open_of_depth(subject, 2);
    uint8_t *memory = memory_of(PAGE);

    for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        kv_io flush = {.kind = KV_IO_FLUSH, .files = masks[i]};

        assert(kv_device_run(device, &flush) == 0);
    }
    for (unsigned file = 0; file < KV_FILE_COUNT; file++) {
        kv_io io = {.kind = KV_IO_WRITE, .file = (kv_file)file, .size = PAGE, .memory = memory};

        memset(memory, (int)file, PAGE);
        assert(kv_device_run(device, &io) == PAGE);
    }
    for (unsigned file = 0; file < KV_FILE_COUNT; file++) {
        kv_io io = {.kind = KV_IO_READ, .file = (kv_file)file, .size = PAGE, .memory = memory};

        assert(kv_device_run(device, &io) == PAGE);
        assert(memory[0] == file && memory[PAGE - 1] == file);
    }
    device->operations->close(device);
    free(memory);
}

static void a_read_past_the_end_finds_no_data(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of(4 * PAGE);

    memset(memory, 1, 2 * PAGE);
    assert(run(device, KV_IO_READ, 0, PAGE, memory) == -ENODATA);
    assert(run(device, KV_IO_WRITE, 0, 2 * PAGE, memory) == 2 * PAGE);
    assert(run(device, KV_IO_READ, 2 * PAGE, PAGE, memory) == -ENODATA);
    assert(run(device, KV_IO_READ, PAGE, 4 * PAGE, memory) == -ENODATA);
    assert(run(device, KV_IO_READ, 1u << 30, PAGE, memory) == -ENODATA);
    assert(run(device, KV_IO_READ, 0, 2 * PAGE, memory) == 2 * PAGE);
    device->operations->close(device);
    free(memory);
}

/* Pages 0 ... count - 1 of a file, all submitted at once, each from or to memory of its own. */
static void run_neighbours(kv_device *device, kv_io *ios, kv_io_kind kind, uint32_t count,
                           uint8_t *memory, uint32_t memory_step)
{
    kv_io *submitted[NEIGHBOURS];
    test_latch latch;

    latch_init(&latch, count);
    for (uint32_t i = 0; i < count; i++) {
        ios[i] = (kv_io){.kind = kind,
                         .file = KV_FILE_SLABS,
                         .offset = (uint64_t)i * PAGE,
                         .size = PAGE,
                         .memory = memory + (size_t)i * memory_step,
                         .done = latch_done,
                         .context = &latch};
        submitted[i] = &ios[i];
    }
    device->operations->submit(device, submitted, count);
    latch_wait(&latch);
}

/* In memory end to end, and scattered; more of them than there may be in one transfer. */
static void neighbours_submitted_together_are_all_moved(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of((size_t)NEIGHBOURS * 2 * PAGE);
    kv_io ios[NEIGHBOURS];

    for (uint32_t step = PAGE; step <= 2 * PAGE; step += PAGE) {
        for (uint32_t i = 0; i < NEIGHBOURS; i++)
            page_fill(memory + (size_t)i * step, i, step);
        run_neighbours(device, ios, KV_IO_WRITE, NEIGHBOURS, memory, step);
        memset(memory, 0, (size_t)NEIGHBOURS * 2 * PAGE);
        run_neighbours(device, ios, KV_IO_READ, NEIGHBOURS, memory, 3 * PAGE - step);
        for (uint32_t i = 0; i < NEIGHBOURS; i++) {
            assert(ios[i].result == PAGE);
            page_check(memory + (size_t)i * (3 * PAGE - step), i, step);
        }
    }
    device->operations->close(device);
    free(memory);
}

static void of_neighbours_across_the_end_each_gets_its_own_result(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of((size_t)NEIGHBOURS * 2 * PAGE);
    kv_io ios[NEIGHBOURS];

    for (uint32_t i = 0; i < 5; i++)
        page_fill(memory + (size_t)i * PAGE, i, 1);
    run_neighbours(device, ios, KV_IO_WRITE, 5, memory, PAGE);
    run_neighbours(device, ios, KV_IO_READ, NEIGHBOURS, memory, 2 * PAGE);
    for (uint32_t i = 0; i < NEIGHBOURS; i++) {
        assert(ios[i].result == (i < 5 ? (int64_t)PAGE : -ENODATA));
        if (i < 5)
            page_check(memory + (size_t)i * 2 * PAGE, i, 1);
    }
    device->operations->close(device);
    free(memory);
}

static void a_file_cut_inside_a_page_has_no_last_page(const test_subject *subject)
{
    char path[PATH_MAX + 32];
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of(2 * PAGE);

    memset(memory, 1, 2 * PAGE);
    assert(run(device, KV_IO_WRITE, 0, 2 * PAGE, memory) == 2 * PAGE);
    (void)snprintf(path, sizeof(path), "%s/%s", subject->directory,
                   kv_file_name(KV_FILE_SLABS));
    assert(truncate(path, PAGE + 100) == 0);
    assert(run(device, KV_IO_READ, 0, 2 * PAGE, memory) == -ENODATA);
    assert(run(device, KV_IO_READ, PAGE, PAGE, memory) == -ENODATA);
    assert(run(device, KV_IO_READ, 0, PAGE, memory) == PAGE);
    device->operations->close(device);
    free(memory);
}

static void reserved_space_reads_as_zeros(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    const kv_device_operations *operations = device->operations;
    uint8_t *memory = memory_of(PAGE);

    assert(operations->file_size(device, KV_FILE_JOURNAL_0) == 0);
    assert(operations->file_reserve(device, KV_FILE_SLABS, 64 * PAGE) == 0);
    assert(operations->file_size(device, KV_FILE_SLABS) == 64 * PAGE);
    memset(memory, 1, PAGE);
    assert(run(device, KV_IO_READ, 63 * PAGE, PAGE, memory) == PAGE);
    assert(memory[0] == 0 && memory[PAGE - 1] == 0);
    assert(run(device, KV_IO_READ, 64 * PAGE, PAGE, memory) == -ENODATA);
    assert(operations->file_reserve(device, KV_FILE_SLABS, 128 * PAGE) == 0);
    assert(run(device, KV_IO_READ, 64 * PAGE, PAGE, memory) == PAGE);
    operations->close(device);
    free(memory);
}

/* The limit on file sizes stands for any refusal of a write by the system. */
static void a_refused_write_is_the_operations_error(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of(16 * PAGE);
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit;
    struct rlimit low;

    memset(memory, 1, 16 * PAGE);
    assert(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    low = (struct rlimit){.rlim_cur = 8 * PAGE, .rlim_max = limit.rlim_max};
    assert(setrlimit(RLIMIT_FSIZE, &low) == 0);
    assert(run(device, KV_IO_WRITE, 8 * PAGE, PAGE, memory) == -EFBIG);
    assert(run(device, KV_IO_WRITE, 4 * PAGE, 16 * PAGE, memory) == -EFBIG);
    assert(device->operations->file_reserve(device, KV_FILE_JOURNAL_0, 16 * PAGE) == -EFBIG);
    assert(device->operations->file_size(device, KV_FILE_JOURNAL_0) == 0);
    assert(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    assert(run(device, KV_IO_WRITE, 4 * PAGE, 16 * PAGE, memory) == 16 * PAGE);
    (void)signal(SIGXFSZ, before);
    device->operations->close(device);
    free(memory);
}

static void the_incarnation_lasts_as_long_as_the_boot(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 1);
    uint64_t first = device->operations->incarnation(device);

    assert(first != 0);
    device->operations->close(device);
    device = open_of_depth(subject, 1);
    assert(device->operations->incarnation(device) == first);
    device->operations->close(device);
}

static const test_rule rules[] = {
    open_reports_what_is_wrong,
    what_was_written_is_read,
    files_agree_with_a_model_in_memory,
    more_operations_than_the_depth_all_complete,
    every_file_can_be_flushed_at_once,
    a_read_past_the_end_finds_no_data,
    neighbours_submitted_together_are_all_moved,
    of_neighbours_across_the_end_each_gets_its_own_result,
    a_file_cut_inside_a_page_has_no_last_page,
    reserved_space_reads_as_zeros,
    a_refused_write_is_the_operations_error,
    the_incarnation_lasts_as_long_as_the_boot,
};

int main(void)
{
    subject_check_all(rules, sizeof(rules) / sizeof(rules[0]));
}
