/* See load.h. */

#include "client/load.h"

#include "client/backoff.h"
#include "client/client_limits.h"

#include <assert.h>

#define NS_PER_MS 1000000u
#define FADE_SHIFT_MAX 40u
#define SMOOTHING_SHIFT 3u /* a new measurement counts for an eighth */

/* Every access here is relaxed: each is a number of its own, and an old one does no harm. */
static uint64_t get(const atomic_ullong *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void put(atomic_ullong *number, uint64_t value)
{
    atomic_store_explicit(number, value, memory_order_relaxed);
}

uint32_t kv_load_units(uint64_t size)
{
    assert(size <= KV_MESSAGE_VALUES_SIZE_MAX);
    return 1 + (uint32_t)(size / KV_CLIENT_LOAD_UNIT_SIZE);
}

void kv_load_enter(kv_load *load, uint32_t units, uint64_t now_ns)
{
    if (atomic_fetch_add_explicit(&load->units, units, memory_order_relaxed) == 0)
        put(&load->busy_ns, now_ns);
}

void kv_load_leave(kv_load *load, uint32_t units)
{
    uint32_t before = atomic_fetch_sub_explicit(&load->units, units, memory_order_relaxed);

    assert(before >= units);
}

void kv_load_note(kv_load *load, uint32_t units, uint64_t elapsed_ns, uint64_t now_ns)
{
    uint64_t before = get(&load->latency_ns);
    uint64_t sample = elapsed_ns / units;

    assert(units > 0);
    if (before != 0)
        sample = before - (before >> SMOOTHING_SHIFT) + (sample >> SMOOTHING_SHIFT);
    put(&load->latency_ns, sample > 0 ? sample : 1);
    put(&load->heard_ns, now_ns);
}

uint64_t kv_load_usual_ns(const kv_load *load, uint32_t units)
{
    return get(&load->latency_ns) * units;
}

void kv_load_avoid(kv_load *load, uint64_t now_ns, kv_random *random)
{
    uint32_t failures;

    if (kv_load_is_avoided(load, now_ns)) /* another lane has just found out the same */
        return;
    failures = atomic_fetch_add_explicit(&load->failures, 1, memory_order_relaxed);
    put(&load->avoid_ns, now_ns + kv_backoff_ns(random, failures, KV_CLIENT_AVOID_FIRST_MS,
                                                KV_CLIENT_AVOID_MAX_MS));
}

void kv_load_reached(kv_load *load)
{
    if (atomic_load_explicit(&load->failures, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&load->failures, 0, memory_order_relaxed);
    put(&load->avoid_ns, 0);
}

bool kv_load_is_avoided(const kv_load *load, uint64_t now_ns)
{
    return get(&load->avoid_ns) > now_ns;
}

/* For how long a node with something under way has not answered. */
static uint64_t silence(const kv_load *load, uint64_t now_ns)
{
    uint64_t heard_ns = get(&load->heard_ns);
    uint64_t busy_ns = get(&load->busy_ns);
    uint64_t since_ns = heard_ns > busy_ns ? heard_ns : busy_ns;

    return now_ns > since_ns ? now_ns - since_ns : 0;
}

/* What is left of a latency that was noted a while ago. */
static uint64_t faded(uint64_t latency_ns, uint64_t heard_ns, uint64_t now_ns)
{
    uint64_t age_ns = now_ns > heard_ns ? now_ns - heard_ns : 0;
    uint64_t shift = age_ns / ((uint64_t)KV_CLIENT_LATENCY_HALF_MS * NS_PER_MS);

    return latency_ns >> (shift < FADE_SHIFT_MAX ? shift : FADE_SHIFT_MAX);
}

static uint64_t cost(const kv_load *load, uint64_t now_ns)
{
    uint32_t units = atomic_load_explicit(&load->units, memory_order_relaxed);
    uint64_t latency_ns = get(&load->latency_ns);
    uint64_t silence_ns = silence(load, now_ns);

    if (latency_ns == 0)
        latency_ns = KV_CLIENT_LATENCY_FIRST_NS;
    if (units == 0)
        return faded(latency_ns, get(&load->heard_ns), now_ns);
    return (latency_ns > silence_ns ? latency_ns : silence_ns) * ((uint64_t)units + 1);
}

/* Who may be chosen, by index; returns how many. */
static uint32_t candidates_of(const kv_load *loads, const kv_member *members, uint32_t count,
                              uint32_t excluded, uint64_t now_ns, uint32_t *candidates)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i++)
        if (members[i].endpoint != excluded &&
            !kv_load_is_avoided(&loads[members[i].endpoint], now_ns))
            candidates[found++] = i;
    return found;
}

/* All are to be left alone: the one whose time comes first. */
static uint32_t first_again(const kv_load *loads, const kv_member *members, uint32_t count,
                            uint32_t excluded)
{
    uint64_t best_ns = UINT64_MAX;
    uint32_t best = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t avoid_ns = get(&loads[members[i].endpoint].avoid_ns);

        if (members[i].endpoint == excluded || avoid_ns >= best_ns)
            continue;
        best = i;
        best_ns = avoid_ns;
    }
    return best;
}

uint32_t kv_load_choose(const kv_load *loads, const kv_member *members, uint32_t count,
                        uint32_t excluded, uint64_t now_ns, kv_random *random)
{
    uint32_t candidates[KV_CHAIN_TARGETS_LIMIT];
    uint32_t found, one, other;

    assert(count > 0);
    assert(count <= KV_CHAIN_TARGETS_LIMIT);
    if (count == 1)
        return 0;
    found = candidates_of(loads, members, count, excluded, now_ns, candidates);
    if (found == 0)
        return first_again(loads, members, count, excluded);
    if (found == 1)
        return candidates[0];
    one = (uint32_t)kv_random_below(random, found);
    other = (one + 1 + (uint32_t)kv_random_below(random, found - 1)) % found;
    one = candidates[one];
    other = candidates[other];
    return cost(&loads[members[one].endpoint], now_ns) <=
                   cost(&loads[members[other].endpoint], now_ns)
               ? one
               : other;
}
