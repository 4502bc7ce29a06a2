/* Update channels of a target in a chain: records that are cancelled, forgotten, or begun by a
 * predecessor. */

#include "channel_table.h"

#define MANY 100u

static kv_channel_verdict begin_forwarded(uint32_t channel, uint64_t sequence, uint32_t count)
{
    kv_channel_verdict verdict;

    forwarded = true;
    verdict = begin(1, channel, sequence, count, false);
    forwarded = false;
    return verdict;
}

static void a_cancelled_update_never_began(void)
{
    table_open(4, 4, 1 << 20);
    assert(begin(1, 1, 1, MANY, false) == KV_CHANNEL_BEGUN);
    kv_channel_cancel(table, running, clock_ms);
    kv_channels_invariants(table);
    assert(kv_channels_memory(table) == 0);
    assert(begin(1, 1, 1, MANY, true) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, MANY);
    assert(begin(1, 1, 2, 1, false) == KV_CHANNEL_BEGUN);
    kv_channel_cancel(table, running, clock_ms);
    kv_channels_invariants(table);
    assert(begin(1, 1, 1, MANY, true) == KV_CHANNEL_UNKNOWN);
    assert(begin(1, 1, 2, 1, true) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, 1);
    assert(begin(1, 1, 2, 1, true) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void what_is_forgotten_is_never_applied_again(void)
{
    kv_channel *first;

    table_open(4, 4, 1 << 20);
    apply(1, 1, 4);
    apply(2, 1, 4);
    assert(begin(1, 2, 7, 1, false) == KV_CHANNEL_BEGUN);
    first = running;
    kv_channels_forget(table);
    kv_channels_invariants(table);
    assert(begin(1, 1, 4, 1, true) == KV_CHANNEL_UNKNOWN);
    assert(begin(2, 1, 5, 1, true) == KV_CHANNEL_UNKNOWN);
    assert(begin(1, 2, 7, 1, true) == KV_CHANNEL_RUNNING);
    end(first, KV_OK, 1);
    assert(begin(1, 2, 8, 1, true) == KV_CHANNEL_UNKNOWN);
    apply(1, 1, 6);
    assert(begin(1, 1, 6, 1, true) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void the_word_of_a_predecessor_is_newer_than_any_record(void)
{
    kv_channel *again;

    table_open(4, 4, 1 << 20);
    assert(begin_forwarded(1, 1, 1) == KV_CHANNEL_BEGUN);
    end(running, KV_NO_SPACE, 1);
    assert(begin_forwarded(1, 1, 1) == KV_CHANNEL_BEGUN);
    again = running;
    assert(begin(1, 1, 1, 1, true) == KV_CHANNEL_RUNNING);
    end(again, KV_OK, 1);
    assert(begin(1, 1, 1, 1, true) == KV_CHANNEL_KNOWN);
    assert(known[0] == KV_OK);
    kv_channels_close(table);
}

static void an_older_word_of_a_predecessor_is_stale(void)
{
    table_open(4, 4, 1 << 20);
    apply(1, 1, 5);
    assert(begin_forwarded(1, 4, 1) == KV_CHANNEL_STALE);
    assert(begin(1, 1, 5, 1, true) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void an_update_that_nobody_knows_of_may_be_forwarded_yet(void)
{
    table_open(4, 4, 1 << 20);
    kv_channels_forget(table);
    assert(begin(1, 1, 3, 1, true) == KV_CHANNEL_UNKNOWN);
    assert(begin_forwarded(1, 3, 1) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, 1);
    assert(begin(1, 1, 3, 1, true) == KV_CHANNEL_KNOWN);
    kv_channels_close(table);
}

static void what_is_forwarded_without_a_record_is_not_applied_when_it_is_repeated(void)
{
    kv_channel *first;

    table_open(1, 1, 1 << 20);
    assert(begin(1, 1, 1, 1, false) == KV_CHANNEL_BEGUN);
    first = running;
    assert(begin_forwarded(2, 7, 1) == KV_CHANNEL_FULL);
    assert(begin_forwarded(1, 2, 1) == KV_CHANNEL_RUNNING);
    end(first, KV_OK, 1);
    assert(begin(1, 1, 2, 1, true) == KV_CHANNEL_UNKNOWN);
    assert(begin(1, 2, 7, 1, true) == KV_CHANNEL_UNKNOWN);
    kv_channels_close(table);
}

static void a_record_that_has_no_room_for_a_forwarded_update_is_void(void)
{
    kv_channel *held[2];

    table_open(2, 2, KV_CHANNELS_MEMORY_MIN);
    apply(1, 2, 1);
    assert(begin(1, 1, 1, 3000, false) == KV_CHANNEL_BEGUN);
    held[0] = running;
    assert(begin(2, 1, 1, 3000, false) == KV_CHANNEL_BEGUN);
    held[1] = running;
    assert(begin_forwarded(2, 2, 3000) == KV_CHANNEL_FULL);
    assert(begin(1, 2, 2, 3000, true) == KV_CHANNEL_UNKNOWN);
    end(held[0], KV_OK, 3000);
    end(held[1], KV_OK, 3000);
    kv_channels_close(table);
}

int main(void)
{
    a_cancelled_update_never_began();
    what_is_forgotten_is_never_applied_again();
    the_word_of_a_predecessor_is_newer_than_any_record();
    an_older_word_of_a_predecessor_is_stale();
    an_update_that_nobody_knows_of_may_be_forwarded_yet();
    what_is_forwarded_without_a_record_is_not_applied_when_it_is_repeated();
    a_record_that_has_no_room_for_a_forwarded_update_is_void();
    return 0;
}
