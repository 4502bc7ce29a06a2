/* How long device operations are out, by looks that a test makes at times of its choice. */

#include "engine/io_watch.h"

#include <assert.h>

#define MS 1000000ull
#define BEGIN (7u * MS)

static kv_io_ages look_ms(kv_io_watch *watch, uint64_t at_ms)
{
    return kv_io_watch_look(watch, BEGIN + at_ms * MS);
}

static void a_device_with_nothing_to_do_is_well(void)
{
    kv_io_watch watch = {0};
    kv_io_ages ages = {0};

    for (uint64_t ms = 0; ms < 10000; ms += 500)
        ages = look_ms(&watch, ms);
    assert(ages.oldest_ns == 0 && ages.silent_ns == 0);
}

static void what_never_ends_grows_old_and_silent(void)
{
    kv_io_watch watch = {0};
    kv_io_ages ages;

    look_ms(&watch, 0);
    kv_io_watch_begin(&watch);
    for (uint64_t ms = 200; ms <= 6000; ms += 200)
        ages = look_ms(&watch, ms);
    assert(ages.oldest_ns == 6000 * MS && ages.silent_ns == 6000 * MS);
}

static void an_operation_that_is_stuck_among_others_is_old_but_not_silent(void)
{
    kv_io_watch watch = {0};
    kv_io_ages ages;
    uint8_t stuck, other;

    look_ms(&watch, 0);
    stuck = kv_io_watch_begin(&watch);
    for (uint64_t ms = 200; ms <= 4000; ms += 200) {
        other = kv_io_watch_begin(&watch);
        kv_io_watch_end(&watch, other);
        ages = look_ms(&watch, ms);
    }
    assert(ages.oldest_ns == 4000 * MS && ages.silent_ns == 0);
    kv_io_watch_end(&watch, stuck);
    ages = look_ms(&watch, 4200);
    assert(ages.oldest_ns == 0);
}

static void a_busy_device_whose_operations_end_is_young(void)
{
    kv_io_watch watch = {0};
    uint8_t last;

    look_ms(&watch, 0);
    last = kv_io_watch_begin(&watch);
    for (uint64_t ms = 100; ms <= 5000; ms += 100) {
        uint8_t next = kv_io_watch_begin(&watch);
        kv_io_ages ages;

        kv_io_watch_end(&watch, last);
        last = next;
        ages = look_ms(&watch, ms);
        assert(ages.oldest_ns <= 200 * MS && ages.silent_ns == 0);
    }
}

static void more_generations_than_there_are_places_grow_old_together(void)
{
    kv_io_watch watch = {0};
    uint8_t generations[3 * KV_IO_WATCH_GENERATIONS];
    kv_io_ages ages;

    for (uint32_t i = 0; i < 3 * KV_IO_WATCH_GENERATIONS; i++) {
        look_ms(&watch, 100 * i);
        generations[i] = kv_io_watch_begin(&watch);
    }
    for (uint32_t i = 0; i + 1 < 3 * KV_IO_WATCH_GENERATIONS; i++)
        kv_io_watch_end(&watch, generations[i]);
    ages = look_ms(&watch, 100 * 3 * KV_IO_WATCH_GENERATIONS);
    assert(ages.oldest_ns > 0 && watch.out == 1);
    kv_io_watch_end(&watch, generations[3 * KV_IO_WATCH_GENERATIONS - 1]);
    assert(look_ms(&watch, 10000).oldest_ns == 0);
}

static void time_in_which_nobody_looked_proves_little(void)
{
    kv_io_watch watch = {0};
    kv_io_ages ages;

    look_ms(&watch, 0);
    kv_io_watch_begin(&watch);
    ages = look_ms(&watch, 60000);
    assert(ages.silent_ns == KV_IO_WATCH_STEP_NS && ages.oldest_ns == KV_IO_WATCH_STEP_NS);
    ages = look_ms(&watch, 50000); /* a clock that went back */
    assert(ages.silent_ns == KV_IO_WATCH_STEP_NS);
}

int main(void)
{
    a_device_with_nothing_to_do_is_well();
    what_never_ends_grows_old_and_silent();
    an_operation_that_is_stuck_among_others_is_old_but_not_silent();
    a_busy_device_whose_operations_end_is_young();
    more_generations_than_there_are_places_grow_old_together();
    time_in_which_nobody_looked_proves_little();
    return 0;
}
