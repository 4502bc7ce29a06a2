/* Timers by their millisecond, in constant time and without allocation (Varghese and Lauck's
 * hierarchical timing wheel).
 *
 *   tick of 45 bits:  | level 7 | ... | level 2 | level 1 | level 0 |   6 bits each
 *
 * A timer stands on the level of the highest group in which its tick differs from the wheel's, in
 * the slot that this group names. When the wheel comes to a slot, its timers come down to lower
 * levels, or are due. Eight levels hold every time of a 64-bit clock, so nothing is ever too far.
 *
 * Invariants
 *  1. A set timer is on exactly one list: of a slot, `due` or `expiring`.
 *  2. The timers of a slot have ticks after the wheel's, and so begins the slot itself.
 *  3. Each slot that has timers has its bit set in `occupied`; a set bit promises nothing. */
#ifndef KV_TIMER_WHEEL_H
#define KV_TIMER_WHEEL_H

#include "bytes/list.h"
#include "drivers/reactor.h"

#include <stdint.h>

#define KV_TIMER_WHEEL_TICK_NS 1000000u
#define KV_TIMER_WHEEL_LEVELS 8u
#define KV_TIMER_WHEEL_SLOT_BITS 6u
#define KV_TIMER_WHEEL_SLOTS (1u << KV_TIMER_WHEEL_SLOT_BITS)

typedef struct kv_timer_wheel {
    uint64_t tick; /* the last one whose timers were collected */
    kv_list due;
    kv_list expiring;
    uint64_t occupied[KV_TIMER_WHEEL_LEVELS];
    kv_list slots[KV_TIMER_WHEEL_LEVELS][KV_TIMER_WHEEL_SLOTS];
} kv_timer_wheel;

void kv_timer_wheel_init(kv_timer_wheel *wheel, uint64_t now_ns);
/* Of a timer that is not set. */
void kv_timer_wheel_set(kv_timer_wheel *wheel, kv_timer *timer, uint64_t due_ns);
/* When to call kv_timer_wheel_expire next: never after a timer is due, rarely before (a far timer
 * comes down a level). KV_REACTOR_FOREVER when no timer is set. */
uint64_t kv_timer_wheel_next_ns(kv_timer_wheel *wheel);
/* Call `expire` of every timer that is due, each unset before. What these calls set waits for the
 * next time, however early. Returns how many ran. */
uint32_t kv_timer_wheel_expire(kv_timer_wheel *wheel, uint64_t now_ns);

#endif
