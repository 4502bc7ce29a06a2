/* The simulated device: lives, cut points, armed faults, and the port over them. Guarantees the
 * rules of device_sim.h and that a seed replays; leaves what is in flight to sim_queue.c, and the
 * bytes and what becomes of them in a crash to sim_file.c. */

#include "drivers/device_sim.h"

#include "drivers/sim_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

typedef struct kv_sim_life {
    kv_device device;
    kv_sim *sim;
    kv_list link;
    kv_io **out; /* submitted and not told of their end; only compared once the life is over */
    size_t out_count;
    size_t out_count_max;
} kv_sim_life;

typedef struct kv_sim_fault {
    int error;
    uint32_t count;
} kv_sim_fault;

struct kv_sim {
    kv_sim_options options;
    kv_random random;
    kv_sim_queue queue;
    kv_sim_fault faults[KV_IO_FLUSH + 1][KV_FILE_COUNT];
    kv_list lives;     /* every device that is not closed */
    kv_sim_life *life; /* the latest, unless closed */
    bool alive;        /* a life has begun and has not ended */
    bool struck;       /* an armed cut has stopped the latest life */
    uint64_t incarnation;
    uint64_t events;
    uint64_t cut_at;
    uint64_t cut_at_event;
    kv_sim_statistics statistics;
};

static bool running(const kv_sim *sim)
{
    return sim->alive && !sim->struck;
}

static void count_event(kv_sim *sim)
{
    sim->events++;
    if (sim->events == sim->cut_at_event)
        sim->struck = true;
}

/* Taken at submission, so that the order of completion does not decide whom it meets. */
static int take_fault(kv_sim *sim, kv_io_kind kind, kv_file file)
{
    kv_sim_fault *fault = &sim->faults[kind][file];

    if (fault->count == 0)
        return 0;
    fault->count--;
    return fault->error;
}

static void begin_flush(kv_sim *sim, kv_io *io)
{
    int error = 0;

    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        if (error == 0 && (io->files >> file & 1) != 0)
            error = take_fault(sim, KV_IO_FLUSH, file);
    kv_sim_queue_submit(&sim->queue, io, error);
    sim->statistics.flushes++;
    count_event(sim);
}

static void begin_read(kv_sim *sim, kv_io *io)
{
    kv_sim_queue_submit(&sim->queue, io, take_fault(sim, KV_IO_READ, io->file));
    sim->statistics.reads++;
    sim->statistics.read_size += io->size;
}

static void begin_write(kv_sim *sim, kv_io *io)
{
    kv_sim_queue_submit(&sim->queue, io, take_fault(sim, KV_IO_WRITE, io->file));
    sim->statistics.writes++;
    sim->statistics.write_size += io->size;
    if (sim->statistics.writes == sim->cut_at)
        sim->struck = true;
    count_event(sim);
}

static void begin(kv_sim *sim, kv_io *io)
{
    if (io->kind == KV_IO_FLUSH) {
        begin_flush(sim, io);
        return;
    }
    assert(io->file < KV_FILE_COUNT);
    if (io->kind == KV_IO_READ)
        begin_read(sim, io);
    else
        begin_write(sim, io);
}

/* `out` is a short array, not a list through the ios: those may be freed before one asks. */
static size_t life_find(const kv_sim_life *life, const kv_io *io)
{
    size_t index = 0;

    while (index < life->out_count && life->out[index] != io)
        index++;
    return index;
}

static bool life_awaits(const kv_sim_life *life, const kv_io *io)
{
    return life_find(life, io) < life->out_count;
}

static void life_add(kv_sim_life *life, kv_io *io)
{
    if (life->out_count == life->out_count_max) {
        life->out_count_max += KV_DEVICE_DEPTH_MAX;
        life->out = realloc(life->out, life->out_count_max * sizeof(kv_io *));
        assert(life->out != NULL); /* A simulation without memory cannot go on. */
    }
    life->out[life->out_count++] = io;
}

static void life_remove(kv_sim_life *life, const kv_io *io)
{
    size_t index = life_find(life, io);

    assert(index < life->out_count);
    life->out[index] = life->out[--life->out_count];
}

static void life_free(kv_sim_life *life)
{
    kv_list_remove(&life->link);
    free(life->out);
    free(life);
}

/* A completion that stops the life reaches the device and nobody else. */
static void complete_one(kv_sim *sim)
{
    bool reordered = sim->options.reorder_completions;
    size_t index = reordered ? kv_random_below(&sim->random, sim->queue.count) : 0;
    kv_sim_completion completion = kv_sim_queue_complete(&sim->queue, index, &sim->random);

    if (completion.kind != KV_IO_READ)
        count_event(sim);
    if (!running(sim))
        return;
    life_remove(sim->life, completion.io);
    completion.io->result = completion.result;
    if (completion.io->done != NULL)
        completion.io->done(completion.io);
}

static kv_sim_life *life_of(kv_device *device)
{
    return KV_CONTAINER(device, kv_sim_life, device);
}

/* False for every device but the latest, and for that one once its life was stopped or ended. */
static bool life_runs(const kv_sim_life *life)
{
    return life == life->sim->life && running(life->sim);
}

static void sim_submit(kv_device *device, kv_io **ios, size_t count)
{
    kv_sim_life *life = life_of(device);

    for (size_t i = 0; i < count; i++) {
        bool runs = life_runs(life);

        assert(!runs || !life_awaits(life, ios[i])); /* One submission at a time. */
        life_add(life, ios[i]);
        if (runs)
            begin(life->sim, ios[i]);
    }
}

static int sim_register_memory(kv_device *device, void *memory, size_t size, size_t segment_size)
{
    (void)device;
    (void)memory;
    (void)size;
    (void)segment_size;
    return 0;
}

static int64_t sim_file_size(kv_device *device, kv_file file)
{
    assert(file < KV_FILE_COUNT);
    return (int64_t)life_of(device)->sim->queue.files[file].size;
}

static int sim_file_reserve(kv_device *device, kv_file file, uint64_t size)
{
    kv_sim_life *life = life_of(device);
    kv_sim *sim = life->sim;
    uint64_t used = 0;

    assert(file < KV_FILE_COUNT);
    if (!life_runs(life))
        return -ECANCELED;
    if (size <= sim->queue.files[file].size)
        return 0;
    for (kv_file other = 0; other < KV_FILE_COUNT; other++)
        used += sim->queue.files[other].size;
    if (used > sim->options.space_max ||
        size - sim->queue.files[file].size > sim->options.space_max - used)
        return -ENOSPC;
    return kv_sim_file_grow(&sim->queue.files[file], size);
}

static void sim_wait(kv_device *device, kv_io *io)
{
    kv_sim_life *life = life_of(device);

    while (life_runs(life) && life_awaits(life, io))
        complete_one(life->sim);
    if (life_awaits(life, io))
        io->result = -ECANCELED;
}

static size_t sim_poll(kv_device *device)
{
    kv_sim_life *life = life_of(device);

    return life_runs(life) ? kv_sim_pump(life->sim, 1) : 0;
}

static uint64_t sim_incarnation(kv_device *device)
{
    return life_of(device)->sim->incarnation;
}

static void sim_close(kv_device *device)
{
    kv_sim_life *life = life_of(device);
    kv_sim *sim = life->sim;

    if (life == sim->life) {
        kv_sim_pump(sim, SIZE_MAX);
        /* A life that a cut has stopped still waits for the verdict: power or kill. */
        sim->alive = sim->alive && sim->struck;
        sim->life = NULL;
    }
    life_free(life);
}

static const kv_device_operations sim_operations = {
    .name = "simulated",
    .submit = sim_submit,
    .register_memory = sim_register_memory,
    .file_size = sim_file_size,
    .file_reserve = sim_file_reserve,
    .wait = sim_wait,
    .poll = sim_poll,
    .incarnation = sim_incarnation,
    .close = sim_close,
};

/* The queue's lists stay where they are, so they stay valid. */
static void begin_again(kv_sim *sim, uint64_t seed)
{
    *sim = (kv_sim){.options = sim->options, .queue = sim->queue};
    sim->options.seed = seed;
    kv_random_init(&sim->random, seed);
    sim->incarnation = kv_random_next(&sim->random);
    kv_list_init(&sim->lives);
}

int kv_sim_open(const kv_sim_options *options, kv_sim **sim)
{
    kv_sim *opened = calloc(1, sizeof(*opened));

    if (opened == NULL)
        return -ENOMEM;
    opened->options = *options;
    kv_sim_queue_init(&opened->queue, options->tear_bytes, options->lose_reserves);
    begin_again(opened, options->seed);
    *sim = opened;
    return 0;
}

static void free_lives(kv_sim *sim)
{
    while (!kv_list_empty(&sim->lives))
        life_free(KV_CONTAINER(sim->lives.next, kv_sim_life, link));
}

void kv_sim_close(kv_sim *sim)
{
    free_lives(sim);
    kv_sim_queue_close(&sim->queue);
    free(sim);
}

void kv_sim_reset(kv_sim *sim, uint64_t seed)
{
    free_lives(sim);
    kv_sim_queue_reset(&sim->queue);
    begin_again(sim, seed);
}

int kv_sim_copy(kv_sim *sim, const kv_sim *source, uint64_t seed)
{
    int error = 0;

    assert(sim != source);
    kv_sim_reset(sim, seed);
    for (kv_file file = 0; file < KV_FILE_COUNT && error == 0; file++)
        error = kv_sim_file_copy(&sim->queue.files[file], &source->queue.files[file]);
    if (error != 0) {
        kv_sim_reset(sim, seed);
        return error;
    }
    sim->incarnation = source->incarnation;
    sim->alive = true;
    sim->struck = true;
    return 0;
}

kv_device *kv_sim_device(kv_sim *sim)
{
    kv_sim_life *life = calloc(1, sizeof(*life));

    assert(!sim->alive);
    if (life == NULL)
        return NULL;
    life->device.operations = &sim_operations;
    life->sim = sim;
    kv_list_append(&sim->lives, &life->link);
    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        sim->queue.files[file].flush_failed = false;
    sim->life = life;
    sim->alive = true;
    sim->struck = false;
    return &life->device;
}

size_t kv_sim_pump(kv_sim *sim, size_t count)
{
    size_t completed = 0;

    for (; completed < count && kv_sim_in_flight(sim) > 0; completed++)
        complete_one(sim);
    return completed;
}

size_t kv_sim_in_flight(const kv_sim *sim)
{
    return running(sim) ? sim->queue.count : 0;
}

uint64_t kv_sim_writes(const kv_sim *sim)
{
    return sim->statistics.writes;
}

void kv_sim_cut_at(kv_sim *sim, uint64_t at)
{
    assert(at == 0 || at > sim->statistics.writes);
    sim->cut_at = at;
}

uint64_t kv_sim_events(const kv_sim *sim)
{
    return sim->events;
}

void kv_sim_cut_at_event(kv_sim *sim, uint64_t at)
{
    assert(at == 0 || at > sim->events);
    sim->cut_at_event = at;
}

bool kv_sim_cut(const kv_sim *sim)
{
    return sim->struck;
}

/* The files have taken, or lost, what was in flight. */
static void end_life(kv_sim *sim)
{
    kv_sim_queue_abandon(&sim->queue);
    sim->life = NULL;
    sim->alive = false;
}

void kv_sim_power_cut(kv_sim *sim)
{
    const kv_sim_odds *odds = kv_sim_odds_draw(&sim->random);

    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        kv_sim_file_power_cut(&sim->queue.files[file], odds, &sim->random);
    sim->incarnation = kv_random_next(&sim->random);
    end_life(sim);
}

void kv_sim_kill(kv_sim *sim)
{
    const kv_sim_odds *odds = kv_sim_odds_draw(&sim->random);

    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        kv_sim_file_kill(&sim->queue.files[file], odds, &sim->random);
    end_life(sim);
}

void kv_sim_fail(kv_sim *sim, kv_io_kind kind, kv_file file, int error, uint32_t count)
{
    assert(kind >= KV_IO_READ && kind <= KV_IO_FLUSH);
    assert(file < KV_FILE_COUNT);
    assert(error < 0);
    sim->faults[kind][file] = (kv_sim_fault){.error = error, .count = count};
}

void kv_sim_flip(kv_sim *sim, kv_file file, uint64_t offset, uint8_t mask)
{
    assert(file < KV_FILE_COUNT);
    assert(kv_sim_file_holds(&sim->queue.files[file], offset, 1));
    kv_sim_file_bytes(&sim->queue.files[file])[offset] ^= mask;
}

uint8_t *kv_sim_bytes(kv_sim *sim, kv_file file, uint64_t *size)
{
    assert(file < KV_FILE_COUNT);
    *size = sim->queue.files[file].size;
    return kv_sim_file_bytes(&sim->queue.files[file]);
}

void kv_sim_set_space(kv_sim *sim, uint64_t space_max)
{
    sim->options.space_max = space_max;
}

void kv_sim_statistics_read(const kv_sim *sim, kv_sim_statistics *statistics)
{
    *statistics = sim->statistics;
}
