/* The ring of events: in order, bounded, readable while there are some. */

#include "node/events.h"

#include "node/node_limits.h"

#include <assert.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>

static bool is_readable(const kv_events *events)
{
    struct pollfd waited = {.fd = events->descriptor, .events = POLLIN};

    return poll(&waited, 1, 0) == 1;
}

static void events_come_in_order_and_the_descriptor_says_so(void)
{
    kv_node_event taken[4];
    kv_events events;

    assert(kv_events_open(&events) == 0 && !is_readable(&events));
    kv_events_report(&events, KV_EVENT_CONNECTED, 0, 1, "one %d", 1);
    kv_events_report(&events, KV_EVENT_CUT_RESET, 104, 2, "two");
    assert(is_readable(&events));
    assert(kv_events_take(&events, taken, 1) == 1 && strcmp(taken[0].text, "one 1") == 0);
    assert(taken[0].kind == KV_EVENT_CONNECTED && taken[0].connection == 1 && taken[0].time_ms > 0);
    assert(is_readable(&events));
    assert(kv_events_take(&events, taken, 4) == 1 && taken[0].error == 104);
    assert(!is_readable(&events) && kv_events_take(&events, taken, 4) == 0);
    kv_events_close(&events);
}

static void the_oldest_make_room_and_are_counted(void)
{
    kv_node_statistics statistics = {0};
    kv_node_event taken;
    kv_events events;

    assert(kv_events_open(&events) == 0);
    for (uint32_t i = 0; i < KV_NODE_EVENTS_MAX + 10; i++)
        kv_events_report(&events, KV_EVENT_CONNECTED, 0, i, "%u", i);
    kv_events_sum(&events, &statistics);
    assert(statistics.events[KV_EVENT_CONNECTED] == KV_NODE_EVENTS_MAX + 10);
    assert(statistics.events_dropped == 10);
    for (uint32_t i = 10; i < KV_NODE_EVENTS_MAX + 10; i++)
        assert(kv_events_take(&events, &taken, 1) == 1 && taken.connection == i);
    assert(!is_readable(&events));
    kv_events_close(&events);
}

static void a_long_text_is_cut_short(void)
{
    char text[2 * KV_NODE_EVENT_TEXT_SIZE];
    kv_node_event taken;
    kv_events events;

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = 0;
    assert(kv_events_open(&events) == 0);
    kv_events_report(&events, KV_EVENT_REFUSED, 0, 1, "%s", text);
    assert(kv_events_take(&events, &taken, 1) == 1);
    assert(strlen(taken.text) == KV_NODE_EVENT_TEXT_SIZE - 1);
    kv_events_close(&events);
}

int main(void)
{
    events_come_in_order_and_the_descriptor_says_so();
    the_oldest_make_room_and_are_counted();
    a_long_text_is_cut_short();
    return 0;
}
