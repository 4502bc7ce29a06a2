/* A target's engine on its simulated device. Device operations complete after a while, which may
 * be long; the engine's operations are stepped in the turns of their target. What maintenance does
 * takes no time. */

#include "simulator.h"

#include <errno.h>

#define SPACE_AGE (10 * MILLISECOND)
#define MAINTAIN_MAX (100 * MILLISECOND)
#define START_MS 1800000000000ull
#define SPACE_MAX (64ull << 20)
#define DEVICES_KEPT 64u

/* Devices and memory are kept for the next world: page faults are what many short ones would
 * spend their time on. */
static kv_sim *kept_sims[8][DEVICES_KEPT];
static uint32_t kept_sim_counts[8];
static uint8_t *kept_memory[DEVICES_KEPT];
static uint32_t kept_memory_count;

static uint32_t kind_of(const sim_world *world)
{
    return (world->options.reorder != 0) | (world->options.tear != 0) << 1 |
           (world->options.seed & 1) << 2;
}

static void device_make(sim_world *world, sim_target *target)
{
    uint32_t kind = kind_of(world);
    kv_sim_options options = {.seed = kv_random_next(&world->disks),
                              .space_max = SPACE_MAX,
                              .reorder_completions = kind & 1,
                              .tear_bytes = kind & 2,
                              .lose_reserves = kind & 4};

    if (kept_sim_counts[kind] > 0) {
        target->sim = kept_sims[kind][--kept_sim_counts[kind]];
        kv_sim_reset(target->sim, options.seed);
    } else {
        assert(kv_sim_open(&options, &target->sim) == 0);
    }
    kv_sim_set_space(target->sim, SPACE_MAX);
    if (kept_memory_count > 0)
        target->memory = kept_memory[--kept_memory_count];
    else
        assert(posix_memalign((void **)&target->memory, 4096, 4u << 20) == 0);
}

void sim_storage_give_back(sim_world *world, sim_target *target)
{
    uint32_t kind = kind_of(world);

    if (!target->sim)
        return;
    if (kept_sim_counts[kind] < DEVICES_KEPT)
        kept_sims[kind][kept_sim_counts[kind]++] = target->sim;
    else
        kv_sim_close(target->sim);
    if (kept_memory_count < DEVICES_KEPT)
        kept_memory[kept_memory_count++] = target->memory;
    else
        free(target->memory);
    target->sim = NULL;
    target->memory = NULL;
}

static uint64_t wall_ms(void *clock)
{
    const sim_target *target = clock;

    return START_MS + target->world->now / MILLISECOND + (uint64_t)target->node->wall_ms;
}

/* May be called with the engine's lock held. */
static void operation_ready(void *executor, kv_operation *operation)
{
    sim_target *target = executor;
    sim_owner *owner = kv_operation_owner(operation);

    kv_list_remove(&owner->ready);
    kv_list_append(&target->ready, &owner->ready);
}

static void operation_answered(void *executor, kv_operation *operation)
{
    sim_owner *owner = kv_operation_owner(operation);

    (void)executor;
    owner->answered = true;
}

static void plan_maintenance(sim_world *world, sim_target *target, uint64_t delay)
{
    sim_plan(world, delay, EVENT_MAINTAIN, target->node->id, target->number, 0, 0);
}

static void maintenance_wanted(void *executor)
{
    sim_target *target = executor;

    if (target->maintain_due)
        return;
    target->maintain_due = true;
    plan_maintenance(target->world, target, 0);
}

bool sim_storage_open(sim_world *world, sim_target *target)
{
    kv_engine_options options = {.memory_size = world->options.memory_size,
                                 .capacity = world->options.capacity,
                                 .durability = world->options.durability,
                                 .clock = target,
                                 .executor = target,
                                 .now_ms = wall_ms,
                                 .ready = operation_ready,
                                 .answered = operation_answered,
                                 .maintain = maintenance_wanted,
                                 .slab_size = 256u << 10,
                                 .journal_size_max = 128u << 10,
                                 .journal_step = 64u << 10};
    char message[KV_MESSAGE_SIZE] = "";
    int error;

    if (!target->sim)
        device_make(world, target);
    kv_sim_cut_at_event(target->sim, 0); /* what was armed for the process before */
    kv_list_init(&target->ready);
    target->maintain_due = target->maintaining = target->device_due = false;
    target->device = kv_sim_device(target->sim);
    options.device = target->device;
    options.memory = target->memory;
    options.seed = kv_random_next(&world->disks);
    error = kv_engine_open(&options, &target->engine, message);
    target->open = error == 0;
    if (error < 0) {
        target->engine = NULL;
        sim_say(world, "target %u does not open: %s", target->number, message);
        return false;
    }
    plan_maintenance(world, target, MILLISECOND);
    return true;
}

void sim_storage_close(sim_target *target, bool power)
{
    if (target->engine)
        kv_engine_close(target->engine, false);
    target->engine = NULL;
    target->open = false;
    if (power)
        kv_sim_power_cut(target->sim);
    else
        kv_sim_kill(target->sim);
}

void sim_owner_init(sim_owner *owner, sim_owner_kind kind)
{
    *owner = (sim_owner){.kind = kind};
    kv_list_init(&owner->ready);
}

void sim_owner_abandon(sim_owner *owner)
{
    kv_list_remove(&owner->ready);
    if (owner->operation)
        kv_operation_abandon(owner->operation);
    owner->operation = NULL;
}

bool sim_storage_begin(sim_target *target, sim_owner *owner, kv_request *request)
{
    owner->answered = false;
    if (kv_operation_begin(target->engine, request, &owner->operation) < 0) {
        owner->operation = NULL;
        return false;
    }
    kv_operation_set_owner(owner->operation, owner);
    kv_list_append(&target->ready, &owner->ready);
    return true;
}

void sim_storage_claim(sim_target *target, sim_owner *owner)
{
    if (kv_list_empty(&owner->ready) && kv_operation_claim(owner->operation))
        kv_list_append(&target->ready, &owner->ready);
}

static void step(sim_world *world, sim_target *target, sim_owner *owner)
{
    kv_list_remove(&owner->ready);
    if (kv_operation_step(owner->operation)) {
        kv_operation_end(owner->operation);
        owner->operation = NULL;
    }
    if (owner->kind == OWNER_JOB)
        sim_job_stepped(world, target, KV_CONTAINER(owner, sim_job, owner));
    else if (owner->kind == OWNER_READ)
        sim_read_stepped(world, target, KV_CONTAINER(owner, sim_read, owner));
}

bool sim_storage_step(sim_world *world, sim_target *target)
{
    if (kv_list_empty(&target->ready))
        return false;
    step(world, target, KV_CONTAINER(target->ready.next, sim_owner, ready));
    return true;
}

/* Maintenance runs its requests to the end while others go on. */
static int run_internal(void *runner, kv_request *request)
{
    sim_target *target = runner;
    sim_world *world = target->world;
    sim_owner *owner = &target->internal;

    sim_owner_init(owner, OWNER_INTERNAL);
    if (!sim_storage_begin(target, owner, request))
        return -EINVAL;
    while (owner->operation) {
        if (sim_storage_step(world, target) || kv_sim_pump(target->sim, 1) > 0)
            continue;
        if (kv_sim_cut(target->sim)) {
            sim_owner_abandon(owner);
            return -ECANCELED;
        }
        kv_operation_abort(owner->operation, KV_CANCELLED);
        sim_storage_claim(target, owner);
    }
    return 0;
}

/* What scrubbing finds, and what readers met, is replaced by what another copy holds. */
static void repair(sim_world *world, sim_target *target)
{
    static uint8_t entries[65536], value[1u << 20];
    int64_t used = kv_engine_damaged(target->engine, entries, sizeof(entries));

    for (int64_t at = 0; at < used;) {
        uint16_t key_size;
        uint32_t size, key;
        kv_item_stat stat;
        uint64_t write;

        memcpy(&key_size, entries + at, sizeof(key_size));
        key = sim_key_of(entries + at + KV_STORED_ENTRY_SIZE);
        at += KV_STORED_ENTRY_SIZE + key_size;
        world->tally.damaged_values++;
        if (!sim_storage_peek(target, key, &stat, &size))
            continue;
        write = sim_version_write(world, key, stat.version);
        if (write == 0)
            continue;
        sim_value_fill(world, key, write, value);
        if (kv_engine_repair(target->engine, entries + at - key_size, key_size, value, size,
                             run_internal, target) == 0)
            world->tally.repaired_values++;
    }
}

static void maintain(sim_world *world, sim_target *target)
{
    uint64_t next_ms;

    target->maintain_due = false;
    if (target->maintaining)
        return;
    if (world->now < target->device_stuck_until) {
        target->maintain_due = true;
        plan_maintenance(world, target, target->device_stuck_until - world->now);
        return;
    }
    target->maintaining = true;
    next_ms = kv_engine_maintain(target->engine, run_internal, target);
    if (kv_engine_damaged_count(target->engine) > 0 && !kv_sim_cut(target->sim))
        repair(world, target);
    target->maintaining = false;
    if (target->maintain_due)
        return;
    target->maintain_due = true;
    if (next_ms < 1)
        next_ms = 1;
    plan_maintenance(world, target,
                     next_ms * MILLISECOND < MAINTAIN_MAX ? next_ms * MILLISECOND : MAINTAIN_MAX);
}

static uint64_t device_delay(sim_world *world, const sim_target *target)
{
    uint64_t delay = 10 * MICROSECOND + sim_draw(&world->disks, 60 * MICROSECOND);

    if (world->now < target->device_slow_until)
        delay += sim_draw(&world->disks, target->device_delay_us * MICROSECOND + 1);
    if (world->now + delay < target->device_stuck_until)
        delay = target->device_stuck_until - world->now;
    return delay;
}

void sim_storage_stir(sim_world *world, sim_target *target)
{
    if (!target->open)
        return;
    if (kv_sim_cut(target->sim))
        target->node->dying = true;
    if (target->device_due || kv_sim_in_flight(target->sim) == 0)
        return;
    target->device_due = true;
    sim_plan(world, device_delay(world, target), EVENT_DEVICE, target->node->id, target->number, 0,
             0);
}

void sim_storage_event(sim_world *world, sim_target *target, const sim_event *event)
{
    if (event->kind == EVENT_MAINTAIN) {
        maintain(world, target);
        return;
    }
    target->device_due = false;
    kv_sim_pump(target->sim, 1 + sim_draw(&world->disks, 4));
}

uint64_t sim_storage_free(sim_world *world, sim_target *target)
{
    kv_store_statistics statistics;

    if (target->space_at != 0 && world->now - target->space_at < SPACE_AGE)
        return target->space_free;
    kv_engine_statistics(target->engine, &statistics);
    target->space_at = world->now;
    target->space_free = statistics.space_free;
    return target->space_free;
}

bool sim_storage_peek(const sim_target *target, uint32_t key, kv_item_stat *stat, uint32_t *size)
{
    char bytes[SIM_KEY_SIZE];

    sim_key_bytes(key, bytes);
    return kv_engine_peek(target->engine, bytes, sizeof(bytes), stat, size) == 0;
}

bool sim_storage_has(const sim_target *target, uint32_t key, uint64_t version)
{
    kv_item_stat stat;
    uint32_t size;

    return version != 0 && sim_storage_peek(target, key, &stat, &size) && stat.version == version;
}

uint64_t sim_storage_get(sim_world *world, sim_target *target, uint32_t key)
{
    static uint8_t value[1u << 20];
    char bytes[SIM_KEY_SIZE];
    kv_item item = {.key = (uint64_t)(uintptr_t)bytes,
                    .key_size = sizeof(bytes),
                    .value = (uint64_t)(uintptr_t)value,
                    .value_size = sizeof(value)};
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_GET};

    sim_key_bytes(key, bytes);
    if (run_internal(target, &request) < 0 || item.status == KV_NOT_FOUND)
        return 0;
    if (item.status != KV_OK) {
        sim_fail(world, "target %u answers status %d for key %u when all is quiet",
                 target->number, item.status, key);
        return 0;
    }
    return sim_value_write(world, key, value, item.result_size);
}

void sim_storage_scrub(sim_world *world, sim_target *target)
{
    static uint8_t entries[65536];
    uint64_t cursor = 0, objects = 0, bytes = 0;

    while (cursor != UINT64_MAX)
        if (kv_engine_verify(target->engine, &cursor, 1u << 20, entries, sizeof(entries), &objects,
                             &bytes, run_internal, target) < 0)
            return;
    if (kv_engine_damaged_count(target->engine) > 0)
        repair(world, target);
}
