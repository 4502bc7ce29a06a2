/* Update channels: each rule by itself, then random histories against a model that remembers
 * everything, with room to spare and without. */

#include "channel_table.h"

#include "bytes/random.h"

#include <errno.h>
#include <stdlib.h>

#define STEPS 7500
#define MODEL_CLIENTS 12u
#define MODEL_NUMBERS 6u
#define MANY 100u

static void options_without_room_are_refused(void)
{
    static const kv_channels_options wrong[] = {
        {0, 1, 1 << 20, 0}, {1, 0, 1 << 20, 0}, {1, 1, KV_CHANNELS_MEMORY_MIN - 1, 0}};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert(kv_channels_open(&wrong[i], &table) == -EINVAL);
}

static void a_repeated_update_is_answered_from_its_record(void)
{
    kv_channel *first;

    table_open(4, 4, 1 << 20);
    for (uint32_t count = 1; count <= KV_MESSAGE_COUNT_MAX; count *= 4) {
        assert(begin(1, 1, count, count, false) == KV_CHANNEL_BEGUN);
        first = running;
        assert(begin(1, 1, count, count, true) == KV_CHANNEL_RUNNING);
        end(first, KV_EXISTS, count);
        for (int again = 0; again < 3; again++) {
            assert(begin(1, 1, count, count, true) == KV_CHANNEL_KNOWN);
            for (uint32_t i = 0; i < count; i++)
                assert(known[i] == KV_EXISTS);
        }
    }
    kv_channels_close(table);
}

static void a_repeated_update_of_an_unknown_channel_begins_while_nothing_was_forgotten(void)
{
    table_open(4, 4, 1 << 20);
    assert(begin(1, 1, 5, 1, true) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, 1);
    /* The first sending, when it arrives late, is not applied. */
    assert(begin(1, 1, 5, 1, false) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void a_repeated_update_that_may_have_been_forgotten_is_never_applied(void)
{
    table_open(4, 1, 1 << 20);
    apply(1, 2, 1);
    apply(1, 3, 1); /* channel 2 is forgotten */
    assert(begin(1, 1, 5, 1, true) == KV_CHANNEL_UNKNOWN);
    assert(begin(1, 1, 5, 1, true) == KV_CHANNEL_UNKNOWN);
    /* Nor is the first sending, when it arrives late. */
    assert(begin(1, 1, 5, 1, false) == KV_CHANNEL_UNKNOWN);
    assert(begin(1, 1, 4, 1, false) == KV_CHANNEL_STALE);
    apply(1, 1, 6);
    kv_channels_close(table);
}

static void a_repeated_update_that_never_began_is_applied_once(void)
{
    table_open(4, 4, 1 << 20);
    apply(1, 1, 1);
    assert(begin(1, 1, 3, 1, true) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, 1);
    assert(begin(1, 1, 3, 1, false) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void older_sequences_and_other_counts_are_stale(void)
{
    table_open(4, 4, 1 << 20);
    apply(1, 1, 7);
    assert(begin(1, 1, 6, 1, false) == KV_CHANNEL_STALE);
    assert(begin(1, 1, 6, 1, true) == KV_CHANNEL_STALE);
    assert(begin(1, 1, 7, 2, true) == KV_CHANNEL_STALE);
    kv_channels_close(table);
}

static void the_next_update_waits_for_the_one_that_runs(void)
{
    kv_channel *first;

    table_open(4, 4, 1 << 20);
    assert(begin(1, 1, 1, 1, false) == KV_CHANNEL_BEGUN);
    first = running;
    assert(begin(1, 1, 2, 1, false) == KV_CHANNEL_RUNNING);
    end(first, KV_OK, 1);
    apply(1, 1, 2);
    kv_channels_close(table);
}

static void channels_of_clients_are_apart(void)
{
    table_open(4, 4, 1 << 20);
    apply(1, 1, 9);
    apply(1, 2, 1);
    apply(2, 1, 1);
    assert(begin(1, 1, 9, 1, true) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void the_client_that_was_silent_for_longest_goes_first(void)
{
    table_open(3, 4, 1 << 20);
    apply(1, 1, 1);
    apply(2, 1, 1);
    apply(3, 1, 1);
    clock_ms++;
    assert(begin(1, 1, 1, 1, true) == KV_CHANNEL_KNOWN); /* heard again */
    apply(4, 1, 1);
    assert(begin(1, 1, 1, 1, true) == KV_CHANNEL_KNOWN);
    assert(begin(3, 1, 1, 1, true) == KV_CHANNEL_KNOWN);
    assert(begin(4, 1, 1, 1, true) == KV_CHANNEL_KNOWN);
    assert(begin(2, 1, 1, 1, true) == KV_CHANNEL_UNKNOWN);
    kv_channels_close(table);
}

static void a_client_with_an_update_that_runs_stays(void)
{
    kv_channel *first, *second;

    table_open(2, 4, 1 << 20);
    assert(begin(1, 1, 1, 1, false) == KV_CHANNEL_BEGUN);
    first = running;
    apply(2, 1, 1);
    assert(begin(3, 1, 1, 1, false) == KV_CHANNEL_BEGUN);
    second = running;
    assert(begin(4, 1, 1, 1, false) == KV_CHANNEL_FULL);
    assert(begin(2, 1, 1, 1, true) == KV_CHANNEL_FULL);
    end(first, KV_OK, 1);
    assert(begin(1, 1, 1, 1, true) == KV_CHANNEL_KNOWN);
    end(second, KV_OK, 1);
    apply(4, 1, 1);
    assert(begin(3, 1, 1, 1, true) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void a_client_beyond_its_channels_loses_the_idle_ones(void)
{
    table_open(2, 3, 1 << 20);
    apply(1, 1, 1);
    apply(1, 2, 1);
    assert(begin(1, 3, 1, 1, false) == KV_CHANNEL_BEGUN);
    apply(1, 4, 1);
    assert(begin(1, 2, 1, 1, true) == KV_CHANNEL_KNOWN);
    assert(begin(1, 4, 1, 1, true) == KV_CHANNEL_KNOWN);
    assert(begin(1, 3, 1, 1, true) == KV_CHANNEL_RUNNING);
    assert(begin(1, 1, 1, 1, true) == KV_CHANNEL_UNKNOWN);
    kv_channels_close(table);

    table_open(2, 1, 1 << 20);
    assert(begin(1, 1, 1, 1, false) == KV_CHANNEL_BEGUN);
    assert(begin(1, 2, 1, 1, false) == KV_CHANNEL_FULL);
    kv_channels_close(table);
}

static void statuses_count_towards_the_memory(void)
{
    kv_channel *first;

    table_open(100, 100, KV_CHANNELS_MEMORY_MIN);
    assert(begin(1, 1, 1, KV_MESSAGE_COUNT_MAX, false) == KV_CHANNEL_BEGUN);
    first = running;
    assert(kv_channels_memory(table) > KV_MESSAGE_COUNT_MAX);
    assert(begin(2, 1, 1, KV_MESSAGE_COUNT_MAX, false) == KV_CHANNEL_FULL);
    assert(kv_channels_memory(table) < KV_MESSAGE_COUNT_MAX + 1000);
    end(first, KV_OK, KV_MESSAGE_COUNT_MAX);
    assert(begin(2, 1, 1, KV_MESSAGE_COUNT_MAX, false) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, KV_MESSAGE_COUNT_MAX);
    /* Of its own channels, the one that was idle for longest makes room. */
    assert(begin(2, 2, 1, KV_MESSAGE_COUNT_MAX, false) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, KV_MESSAGE_COUNT_MAX);
    assert(begin(2, 1, 1, KV_MESSAGE_COUNT_MAX, true) == KV_CHANNEL_UNKNOWN);
    kv_channels_close(table);
}

/* What the model remembers of each channel, also of those that the table forgot. */
typedef struct memory {
    uint64_t sequence; /* begun last, 0: none */
    uint32_t count;
    uint8_t status;
    bool there;       /* the table has a record */
    bool unknown;     /* which is of an update with an unknown outcome */
    kv_channel *runs;
    uint64_t idle_since;
} memory;

typedef struct model {
    memory channels[MODEL_CLIENTS][MODEL_NUMBERS];
    uint64_t heard[MODEL_CLIENTS]; /* by number of the step */
    uint32_t clients_max;
    uint32_t channels_max;
    uint64_t step;
    bool forgetful;
} model;

static uint32_t model_channels(const model *all, uint32_t client, bool only_running)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < MODEL_NUMBERS; i++)
        count += only_running ? all->channels[client][i].runs != NULL
                              : all->channels[client][i].there;
    return count;
}

static void model_forget(model *all, uint32_t client)
{
    all->forgetful = true;
    for (uint32_t i = 0; i < MODEL_NUMBERS; i++)
        all->channels[client][i].there = false;
}

/* As the header says it, with a search over everything. False: full. */
static bool model_make_client(model *all)
{
    uint32_t count = 0, victim = MODEL_CLIENTS;

    for (uint32_t i = 0; i < MODEL_CLIENTS; i++) {
        if (model_channels(all, i, false) == 0)
            continue;
        count++;
        if (model_channels(all, i, true) == 0 &&
            (victim == MODEL_CLIENTS || all->heard[i] < all->heard[victim]))
            victim = i;
    }
    if (count < all->clients_max)
        return true;
    if (victim == MODEL_CLIENTS)
        return false;
    model_forget(all, victim);
    return true;
}

static bool model_make_channel(model *all, uint32_t client)
{
    memory *oldest = NULL;

    if (model_channels(all, client, false) < all->channels_max)
        return true;
    for (uint32_t i = 0; i < MODEL_NUMBERS; i++) {
        memory *other = &all->channels[client][i];

        if (other->there && !other->runs && (!oldest || other->idle_since < oldest->idle_since))
            oldest = other;
    }
    all->forgetful |= oldest != NULL;
    if (oldest)
        oldest->there = false;
    return oldest != NULL;
}

static kv_channel_verdict model_begin(model *all, uint32_t client, uint32_t number,
                                      uint64_t sequence, uint32_t count, bool repeated)
{
    memory *channel = &all->channels[client][number];

    if (model_channels(all, client, false) == 0 && !model_make_client(all))
        return KV_CHANNEL_FULL;
    if (!channel->there) {
        if (!model_make_channel(all, client))
            return KV_CHANNEL_FULL;
        *channel = (memory){.there = true, .idle_since = all->step,
                            .unknown = repeated && all->forgetful,
                            .sequence = sequence, .count = count};
        return channel->unknown ? KV_CHANNEL_UNKNOWN : KV_CHANNEL_BEGUN;
    }
    if (sequence < channel->sequence)
        return KV_CHANNEL_STALE;
    if (sequence > channel->sequence && !channel->runs) {
        *channel = (memory){.there = true, .sequence = sequence, .count = count};
        return KV_CHANNEL_BEGUN;
    }
    if (sequence > channel->sequence)
        return KV_CHANNEL_RUNNING;
    if (channel->unknown)
        return KV_CHANNEL_UNKNOWN;
    if (count != channel->count)
        return KV_CHANNEL_STALE;
    return channel->runs ? KV_CHANNEL_RUNNING : KV_CHANNEL_KNOWN;
}

static void model_end(model *all, memory *channel, kv_random *random)
{
    channel->status = (uint8_t)kv_random_below(random, KV_BUSY + 1);
    channel->idle_since = all->step;
    end(channel->runs, channel->status, channel->count);
    channel->runs = NULL;
}

static void model_update(model *all, uint32_t client, uint32_t number, kv_random *random)
{
    memory *channel = &all->channels[client][number];
    bool later = kv_random_one_in(random, 2);
    uint64_t sequence = channel->sequence + (later ? 1 + kv_random_below(random, 2) : 0);
    uint32_t count = later ? 1 + (uint32_t)kv_random_below(random, MANY) : channel->count;
    bool repeated = !later || kv_random_one_in(random, 8);
    kv_channel_verdict expected, verdict;

    if (sequence == 0)
        sequence = count = 1;
    if (kv_random_one_in(random, 16) && sequence > 1)
        sequence--;
    if (kv_random_one_in(random, 64))
        count = 1 + count % MANY;
    expected = model_begin(all, client, number, sequence, count, repeated);
    verdict = begin((uint8_t)client, number, sequence, count, repeated);
    assert(verdict == expected);
    if (verdict == KV_CHANNEL_BEGUN)
        channel->runs = running;
    if (verdict == KV_CHANNEL_KNOWN)
        for (uint32_t i = 0; i < count; i++)
            assert(known[i] == channel->status);
}

static void random_histories_agree_with_the_model(uint64_t seed)
{
    static model all;
    kv_random random;

    kv_random_init(&random, seed);
    memset(&all, 0, sizeof(all));
    all.clients_max = 1 + (uint32_t)kv_random_below(&random, MODEL_CLIENTS);
    all.channels_max = 1 + (uint32_t)kv_random_below(&random, MODEL_NUMBERS);
    table_open(all.clients_max, all.channels_max, 1 << 20);
    for (all.step = 1; all.step <= STEPS; all.step++) {
        uint32_t client = (uint32_t)kv_random_below(&random, MODEL_CLIENTS);
        uint32_t number = (uint32_t)kv_random_below(&random, MODEL_NUMBERS);
        memory *channel = &all.channels[client][number];

        clock_ms += kv_random_below(&random, 3);
        all.heard[client] = all.step;
        if (channel->runs && kv_random_one_in(&random, 2))
            model_end(&all, channel, &random);
        else
            model_update(&all, client, number, &random);
    }
    kv_channels_close(table);
}

/* Little memory: the table forgets at times that no model tells, but never what runs, it applies
 * nothing twice, and it answers from the right record or not at all. */
static void scarce_memory_only_makes_outcomes_unknown(uint64_t seed)
{
    static memory all[MODEL_CLIENTS][MODEL_NUMBERS];
    kv_random random;

    kv_random_init(&random, seed);
    memset(all, 0, sizeof(all));
    table_open(MODEL_CLIENTS, MODEL_NUMBERS, KV_CHANNELS_MEMORY_MIN);
    for (int step = 0; step < STEPS; step++) {
        uint8_t client = (uint8_t)kv_random_below(&random, MODEL_CLIENTS);
        uint32_t number = (uint32_t)kv_random_below(&random, MODEL_NUMBERS);
        memory *channel = &all[client][number];
        bool repeated = channel->sequence > 0 && kv_random_one_in(&random, 2);
        uint32_t count = repeated ? channel->count
                                  : 1 + (uint32_t)kv_random_below(&random, KV_MESSAGE_COUNT_MAX);
        uint64_t sequence = channel->sequence + !repeated;
        kv_channel_verdict verdict;

        if (channel->runs && kv_random_one_in(&random, 2)) {
            channel->status = (uint8_t)kv_random_below(&random, KV_BUSY + 1);
            end(channel->runs, channel->status, channel->count);
            channel->runs = NULL;
            continue;
        }
        verdict = begin(client, number, sequence, count, repeated);
        if (channel->runs) {
            assert(verdict == KV_CHANNEL_RUNNING);
        } else if (verdict == KV_CHANNEL_BEGUN) {
            assert(!repeated);
            *channel = (memory){.sequence = sequence, .count = count, .runs = running};
        } else if (verdict == KV_CHANNEL_KNOWN) {
            assert(repeated && known[0] == channel->status && known[count - 1] == known[0]);
        } else {
            assert(verdict == KV_CHANNEL_FULL || (repeated && verdict == KV_CHANNEL_UNKNOWN));
        }
    }
    kv_channels_close(table);
}

int main(void)
{
    options_without_room_are_refused();
    a_repeated_update_is_answered_from_its_record();
    a_repeated_update_of_an_unknown_channel_begins_while_nothing_was_forgotten();
    a_repeated_update_that_may_have_been_forgotten_is_never_applied();
    a_repeated_update_that_never_began_is_applied_once();
    older_sequences_and_other_counts_are_stale();
    the_next_update_waits_for_the_one_that_runs();
    channels_of_clients_are_apart();
    the_client_that_was_silent_for_longest_goes_first();
    a_client_with_an_update_that_runs_stays();
    a_client_beyond_its_channels_loses_the_idle_ones();
    statuses_count_towards_the_memory();
    for (uint64_t seed = 1; seed <= 24; seed++) {
        random_histories_agree_with_the_model(seed);
        scarce_memory_only_makes_outcomes_unknown(seed);
    }
    return 0;
}
