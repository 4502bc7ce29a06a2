/* The background check keeps to its rate, and rests after a pass over little. */

#include "embedded/scrub.h"

#include <assert.h>

#define RATE 1000000u /* bytes a second */

static void nothing_is_due_without_a_rate(void)
{
    kv_scrub scrub;

    kv_scrub_init(&scrub, 0, 5);
    assert(kv_scrub_due(&scrub, 5 + 10 * KV_SCRUB_STEP_MS) == 0);
}

static void steps_come_at_the_rate(void)
{
    kv_scrub scrub;

    kv_scrub_init(&scrub, RATE, 5);
    assert(kv_scrub_due(&scrub, 5 + KV_SCRUB_STEP_MS - 1) == 0);
    assert(kv_scrub_due(&scrub, 5 + KV_SCRUB_STEP_MS) == RATE / 1000 * KV_SCRUB_STEP_MS);
    assert(!kv_scrub_stepped(&scrub, 250000, 250000, 77));
    assert(scrub.cursor == 77);
    assert(kv_scrub_due(&scrub, 5 + 2 * KV_SCRUB_STEP_MS) == RATE / 1000 * KV_SCRUB_STEP_MS);
}

/* A value larger than a step is verified whole, and paid for by the steps that follow. */
static void a_large_value_is_paid_for(void)
{
    kv_scrub scrub;
    uint64_t now_ms = KV_SCRUB_STEP_MS;

    kv_scrub_init(&scrub, RATE, 0);
    assert(!kv_scrub_stepped(&scrub, kv_scrub_due(&scrub, now_ms), 800000, 1));
    assert(kv_scrub_due(&scrub, now_ms += KV_SCRUB_STEP_MS) == 0);
    assert(kv_scrub_due(&scrub, now_ms += KV_SCRUB_STEP_MS) == 0);
    assert(kv_scrub_due(&scrub, now_ms += KV_SCRUB_STEP_MS) == 200000);
}

static void a_short_pass_is_followed_by_a_rest(void)
{
    kv_scrub scrub;
    uint64_t due;

    kv_scrub_init(&scrub, RATE, 0);
    due = kv_scrub_due(&scrub, KV_SCRUB_STEP_MS);
    assert(kv_scrub_stepped(&scrub, due, 100, UINT64_MAX));
    assert(scrub.cursor == 0);
    assert(kv_scrub_due(&scrub, KV_SCRUB_PASS_MS_MIN - 1) == 0);
    assert(kv_scrub_due(&scrub, KV_SCRUB_PASS_MS_MIN) == 0);
    due = kv_scrub_due(&scrub, KV_SCRUB_PASS_MS_MIN + KV_SCRUB_STEP_MS);
    assert(due == RATE / 1000 * KV_SCRUB_STEP_MS); /* nothing saved up meanwhile */
    assert(kv_scrub_stepped(&scrub, due, 100, UINT64_MAX));
    assert(kv_scrub_due(&scrub, 2 * KV_SCRUB_PASS_MS_MIN - 1) == 0);
}

static void a_long_pass_is_followed_at_once(void)
{
    kv_scrub scrub;
    uint64_t now_ms = 3 * KV_SCRUB_PASS_MS_MIN, due;

    kv_scrub_init(&scrub, RATE, 0);
    due = kv_scrub_due(&scrub, now_ms);
    assert(kv_scrub_stepped(&scrub, due, due, UINT64_MAX));
    assert(kv_scrub_due(&scrub, now_ms + KV_SCRUB_STEP_MS) > 0);
}

int main(void)
{
    nothing_is_due_without_a_rate();
    steps_come_at_the_rate();
    a_large_value_is_paid_for();
    a_short_pass_is_followed_by_a_rest();
    a_long_pass_is_followed_at_once();
    return 0;
}
