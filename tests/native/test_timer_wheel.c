/* Timers by an injected clock: never early, in order, at any distance. */
#include "drivers/timer_wheel.h"

#include "bytes/random.h"

#include <assert.h>
#include <string.h>

#define MS 1000000ull
#define DAY_NS (86400ull * 1000 * MS)
#define TIMERS 300u
#define STEPS 20000u

typedef struct test_timer {
    kv_timer timer;
    uint32_t expired;
    uint64_t order; /* of its last expiry */
    struct test_timer *other;
} test_timer;

static kv_timer_wheel wheel;
static uint64_t expiries;

static void count_expire(kv_timer *timer)
{
    test_timer *self = KV_CONTAINER(timer, test_timer, timer);

    self->expired++;
    self->order = ++expiries;
}

static void set(test_timer *timer, uint64_t due_ns)
{
    if (timer->timer.expire == NULL)
        timer->timer.expire = count_expire;
    kv_timer_wheel_set(&wheel, &timer->timer, due_ns);
}

static void stop(test_timer *timer)
{
    if (kv_timer_is_set(&timer->timer))
        kv_list_remove(&timer->timer.link);
}

static void a_timer_is_never_early(void)
{
    test_timer timer = {0};

    kv_timer_wheel_init(&wheel, 5 * MS + 1);
    set(&timer, 7 * MS + 1);

    assert(kv_timer_wheel_next_ns(&wheel) == 8 * MS);
    assert(kv_timer_wheel_expire(&wheel, 8 * MS - 1) == 0);
    assert(kv_timer_is_set(&timer.timer));
    assert(kv_timer_wheel_expire(&wheel, 8 * MS) == 1);
    assert(timer.expired == 1 && !kv_timer_is_set(&timer.timer));
    assert(kv_timer_wheel_next_ns(&wheel) == KV_REACTOR_FOREVER);
}

static void a_time_that_has_passed_is_due_at_once(void)
{
    test_timer timer = {0};

    kv_timer_wheel_init(&wheel, DAY_NS);
    set(&timer, 3);

    assert(kv_timer_wheel_next_ns(&wheel) <= DAY_NS);
    assert(timer.expired == 0);
    assert(kv_timer_wheel_expire(&wheel, DAY_NS) == 1);
}

static void timers_expire_in_the_order_of_their_ticks_then_of_being_set(void)
{
    static const uint64_t due_ms[] = {5000, 70, 3, 70, 400000, 3, 5000, 64, 4096, 63};
    static const uint64_t order[] = {8, 5, 1, 6, 10, 2, 9, 4, 7, 3};
    test_timer timers[10] = {0};

    kv_timer_wheel_init(&wheel, 0);
    for (uint32_t i = 0; i < 10; i++)
        set(&timers[i], due_ms[i] * MS);
    expiries = 0;
    assert(kv_timer_wheel_expire(&wheel, 400000 * MS) == 10);
    for (uint32_t i = 0; i < 10; i++)
        assert(timers[i].order == order[i]);
}

static void a_timer_may_be_days_or_centuries_away(void)
{
    static const uint64_t due_ns[] = {DAY_NS, 12 * DAY_NS, 800 * DAY_NS, 36500 * DAY_NS};
    test_timer never = {0};
    uint64_t now = 123456789;

    kv_timer_wheel_init(&wheel, now);
    set(&never, KV_REACTOR_FOREVER);
    for (uint32_t i = 0; i < 4; i++) {
        test_timer timer = {0};
        uint32_t wakes = 0;

        set(&timer, due_ns[i]);
        while (timer.expired == 0) {
            now = kv_timer_wheel_next_ns(&wheel);
            (void)kv_timer_wheel_expire(&wheel, now);
            assert(++wakes <= 2 * KV_TIMER_WHEEL_LEVELS);
        }
        assert(now >= due_ns[i] && now < due_ns[i] + MS);
    }
    assert(never.expired == 0);
    stop(&never);
    assert(kv_timer_wheel_next_ns(&wheel) == KV_REACTOR_FOREVER);
}

static void set_again(kv_timer *timer)
{
    count_expire(timer);
    kv_timer_wheel_set(&wheel, timer, 0);
}

static void a_timer_set_within_its_expiry_waits_for_the_next_time(void)
{
    test_timer timer = {.timer.expire = set_again};

    kv_timer_wheel_init(&wheel, 0);
    set(&timer, MS);
    assert(kv_timer_wheel_expire(&wheel, 10 * MS) == 1);
    assert(kv_timer_is_set(&timer.timer));
    assert(kv_timer_wheel_next_ns(&wheel) <= 10 * MS);
    assert(kv_timer_wheel_expire(&wheel, 10 * MS) == 1);
    assert(timer.expired == 2);
    stop(&timer);
}

static void stop_other(kv_timer *timer)
{
    count_expire(timer);
    stop(KV_CONTAINER(timer, test_timer, timer)->other);
}

static void an_expiry_may_stop_another_that_is_due_too(void)
{
    test_timer second = {0};
    test_timer first = {.timer.expire = stop_other, .other = &second};

    kv_timer_wheel_init(&wheel, 0);
    set(&first, MS);
    set(&second, MS);
    assert(kv_timer_wheel_expire(&wheel, MS) == 1);
    assert(first.expired == 1 && second.expired == 0);
    assert(!kv_timer_is_set(&second.timer));
}

/* Distances of all magnitudes. */
static uint64_t random_distance(kv_random *random)
{
    return kv_random_next(random) >> (20 + kv_random_below(random, 44));
}

/* What the wheel must have done by `now`, told from each timer alone. */
static void check(const test_timer *timers, const uint64_t *due_ns, const uint32_t *before,
                  uint64_t now)
{
    for (uint32_t i = 0; i < TIMERS; i++) {
        bool was_due = due_ns[i] != 0 && (due_ns[i] + MS - 1) / MS <= now / MS;

        assert(timers[i].expired == before[i] + (was_due ? 1 : 0));
        assert(kv_timer_is_set(&timers[i].timer) == (due_ns[i] != 0 && !was_due));
    }
}

static void random_timers_agree_with_a_list(void)
{
    static test_timer timers[TIMERS];
    static uint64_t due_ns[TIMERS]; /* 0: not set */
    static uint32_t before[TIMERS];
    kv_random random;
    uint64_t now = 77 * MS;

    kv_random_init(&random, 1);
    kv_timer_wheel_init(&wheel, now);
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t i = (uint32_t)kv_random_below(&random, TIMERS);

        stop(&timers[i]);
        due_ns[i] = 0;
        if (!kv_random_one_in(&random, 4)) {
            due_ns[i] = now + random_distance(&random) + 1;
            set(&timers[i], due_ns[i]);
        }
        if (!kv_random_one_in(&random, 8))
            continue;
        for (uint32_t k = 0; k < TIMERS; k++)
            before[k] = timers[k].expired;
        if (kv_random_one_in(&random, 2))
            now += random_distance(&random) >> 8;
        else if (kv_timer_wheel_next_ns(&wheel) != KV_REACTOR_FOREVER &&
                 kv_timer_wheel_next_ns(&wheel) > now)
            now = kv_timer_wheel_next_ns(&wheel);
        (void)kv_timer_wheel_expire(&wheel, now);
        check(timers, due_ns, before, now);
        for (uint32_t k = 0; k < TIMERS; k++)
            due_ns[k] = kv_timer_is_set(&timers[k].timer) ? due_ns[k] : 0;
    }
}

int main(void)
{
    a_timer_is_never_early();
    a_time_that_has_passed_is_due_at_once();
    timers_expire_in_the_order_of_their_ticks_then_of_being_set();
    a_timer_may_be_days_or_centuries_away();
    a_timer_set_within_its_expiry_waits_for_the_next_time();
    an_expiry_may_stop_another_that_is_due_too();
    random_timers_agree_with_a_list();
    return 0;
}
