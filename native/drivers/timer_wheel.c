/* See timer_wheel.h. */
#include "drivers/timer_wheel.h"

#include <assert.h>

#define SLOT_MASK (KV_TIMER_WHEEL_SLOTS - 1)

/* A tick is the clock divided by a million, which takes away 19 bits. */
_Static_assert(KV_TIMER_WHEEL_LEVELS *KV_TIMER_WHEEL_SLOT_BITS >= 64 - 19, "a level for every bit");
_Static_assert(KV_TIMER_WHEEL_SLOTS == 64, "a bit of `occupied` for every slot");

/* The tick in which a timer may expire: rounded up, so never early. */
static uint64_t tick_after(uint64_t due_ns)
{
    return due_ns / KV_TIMER_WHEEL_TICK_NS + (due_ns % KV_TIMER_WHEEL_TICK_NS != 0);
}

void kv_timer_wheel_init(kv_timer_wheel *wheel, uint64_t now_ns)
{
    wheel->tick = now_ns / KV_TIMER_WHEEL_TICK_NS;
    kv_list_init(&wheel->due);
    kv_list_init(&wheel->expiring);
    for (uint32_t level = 0; level < KV_TIMER_WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (uint32_t slot = 0; slot < KV_TIMER_WHEEL_SLOTS; slot++)
            kv_list_init(&wheel->slots[level][slot]);
    }
}

static void place(kv_timer_wheel *wheel, kv_timer *timer)
{
    uint64_t tick = tick_after(timer->due_ns);
    uint32_t level;
    uint32_t slot;

    if (tick <= wheel->tick) {
        kv_list_append(&wheel->due, &timer->link);
        return;
    }
    level = (63 - (uint32_t)__builtin_clzll(tick ^ wheel->tick)) / KV_TIMER_WHEEL_SLOT_BITS;
    assert(level < KV_TIMER_WHEEL_LEVELS);
    slot = (uint32_t)(tick >> (level * KV_TIMER_WHEEL_SLOT_BITS)) & SLOT_MASK;
    kv_list_append(&wheel->slots[level][slot], &timer->link);
    wheel->occupied[level] |= 1ull << slot;
}

void kv_timer_wheel_set(kv_timer_wheel *wheel, kv_timer *timer, uint64_t due_ns)
{
    assert(!kv_timer_is_set(timer));
    assert(timer->expire != NULL);
    timer->due_ns = due_ns;
    place(wheel, timer);
}

/* The earliest slot with timers, and the tick at which it begins; NULL when there is none. A slot
 * of a lower level begins before any of a higher one, as it shares the wheel's higher groups. */
static kv_list *first_slot(kv_timer_wheel *wheel, uint64_t *begin)
{
    for (uint32_t level = 0; level < KV_TIMER_WHEEL_LEVELS; level++) {
        uint32_t shift = level * KV_TIMER_WHEEL_SLOT_BITS;
        uint64_t *occupied = &wheel->occupied[level];

        while (*occupied != 0) {
            uint32_t slot = (uint32_t)__builtin_ctzll(*occupied);

            if (!kv_list_empty(&wheel->slots[level][slot])) {
                *begin = (wheel->tick >> shift & ~(uint64_t)SLOT_MASK) + slot;
                *begin <<= shift;
                assert(*begin > wheel->tick);
                return &wheel->slots[level][slot];
            }
            *occupied &= *occupied - 1; /* Its timers were stopped. */
        }
    }
    return NULL;
}

uint64_t kv_timer_wheel_next_ns(kv_timer_wheel *wheel)
{
    uint64_t begin;

    if (!kv_list_empty(&wheel->due))
        return wheel->tick * KV_TIMER_WHEEL_TICK_NS;
    if (first_slot(wheel, &begin) == NULL || begin > UINT64_MAX / KV_TIMER_WHEEL_TICK_NS)
        return KV_REACTOR_FOREVER;
    return begin * KV_TIMER_WHEEL_TICK_NS;
}

/* Move the wheel on, and what has become due to `due`, in the order of the ticks. */
static void advance(kv_timer_wheel *wheel, uint64_t tick)
{
    kv_list *slot;
    uint64_t begin;

    while ((slot = first_slot(wheel, &begin)) != NULL && begin <= tick) {
        kv_list *link;

        wheel->tick = begin;
        /* No timer comes back to the slot: its group no longer differs from the wheel's. */
        while ((link = kv_list_pop(slot)) != NULL)
            place(wheel, KV_CONTAINER(link, kv_timer, link));
    }
    if (tick > wheel->tick)
        wheel->tick = tick;
}

uint32_t kv_timer_wheel_expire(kv_timer_wheel *wheel, uint64_t now_ns)
{
    uint32_t count = 0;
    kv_list *link;

    assert(kv_list_empty(&wheel->expiring));
    advance(wheel, now_ns / KV_TIMER_WHEEL_TICK_NS);
    while ((link = kv_list_pop(&wheel->due)) != NULL)
        kv_list_append(&wheel->expiring, link);
    /* A call may stop any other timer: that takes it off this list. */
    while ((link = kv_list_pop(&wheel->expiring)) != NULL) {
        kv_timer *timer = KV_CONTAINER(link, kv_timer, link);

        timer->expire(timer);
        count++;
    }
    return count;
}
