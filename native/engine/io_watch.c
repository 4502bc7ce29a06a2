/* See io_watch.h. */

#include "engine/io_watch.h"

#include <assert.h>

uint8_t kv_io_watch_begin(kv_io_watch *watch)
{
    watch->out++;
    watch->counts[watch->current]++;
    return watch->current;
}

void kv_io_watch_end(kv_io_watch *watch, uint8_t generation)
{
    assert(generation < KV_IO_WATCH_GENERATIONS);
    assert(watch->out > 0 && watch->counts[generation] > 0);
    watch->out--;
    watch->counts[generation]--;
    watch->ended = true;
}

static uint64_t watched(const kv_io_watch *watch, uint64_t now_ns)
{
    uint64_t step_ns = now_ns - watch->looked_ns;

    if (watch->looked_ns == 0 || now_ns < watch->looked_ns)
        return 0;
    return step_ns < KV_IO_WATCH_STEP_NS ? step_ns : KV_IO_WATCH_STEP_NS;
}

/* With none empty, the current one goes on: an operation older than all of it is out anyway. */
static void generation_begin(kv_io_watch *watch)
{
    for (uint8_t i = 0; i < KV_IO_WATCH_GENERATIONS; i++) {
        if (watch->counts[i] > 0)
            continue;
        watch->current = i;
        watch->begun_ns[i] = watch->clock_ns;
        return;
    }
}

kv_io_ages kv_io_watch_look(kv_io_watch *watch, uint64_t now_ns)
{
    kv_io_ages ages = {0};

    watch->clock_ns += watched(watch, now_ns);
    watch->looked_ns = now_ns;
    if (watch->ended || watch->out == 0)
        watch->progress_ns = watch->clock_ns;
    watch->ended = false;
    ages.silent_ns = watch->clock_ns - watch->progress_ns;
    for (uint32_t i = 0; i < KV_IO_WATCH_GENERATIONS; i++)
        if (watch->counts[i] > 0 && watch->clock_ns - watch->begun_ns[i] > ages.oldest_ns)
            ages.oldest_ns = watch->clock_ns - watch->begun_ns[i];
    generation_begin(watch);
    return ages;
}
