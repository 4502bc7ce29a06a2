/* Trouble: each endpoint is told once, the descriptor is readable while there is news. */

#include "client/trouble.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static bool is_readable(const kv_trouble *trouble)
{
    struct pollfd poller = {.fd = trouble->descriptor, .events = POLLIN};

    return poll(&poller, 1, 0) == 1;
}

static void an_endpoint_is_told_once(void)
{
    kv_addresses *addresses;
    kv_trouble trouble;
    uint32_t first, second;
    char text[64];

    assert(kv_addresses_open(&addresses) == 0);
    assert(kv_addresses_add(addresses, "10.0.0.1:1", &first) == 0);
    assert(kv_addresses_add(addresses, "10.0.0.2:2", &second) == 0);
    assert(kv_trouble_open(&trouble) == 0);
    assert(!is_readable(&trouble));

    kv_trouble_unreachable(&trouble, second);
    kv_trouble_unreachable(&trouble, first);
    kv_trouble_unreachable(&trouble, second);
    assert(is_readable(&trouble));

    assert(kv_trouble_take(&trouble, addresses, text, sizeof(text)) == 0);
    assert(strcmp(text, "10.0.0.1:1\n10.0.0.2:2\n") == 0);
    assert(!is_readable(&trouble));
    assert(kv_trouble_take(&trouble, addresses, text, sizeof(text)) == 0 && text[0] == '\0');
    kv_trouble_close(&trouble);
    kv_addresses_close(addresses);
}

static void what_does_not_fit_comes_next_time(void)
{
    kv_addresses *addresses;
    kv_trouble trouble;
    uint32_t endpoint, taken = 0;
    char text[16], name[32];

    assert(kv_addresses_open(&addresses) == 0);
    assert(kv_trouble_open(&trouble) == 0);
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof(name), "10.0.0.1:%d", 1000 + i);
        assert(kv_addresses_add(addresses, name, &endpoint) == 0);
        kv_trouble_unreachable(&trouble, endpoint);
    }
    while (is_readable(&trouble)) {
        snprintf(name, sizeof(name), "10.0.0.1:%u\n", 1000 + taken);
        assert(kv_trouble_take(&trouble, addresses, text, sizeof(text)) == 0);
        assert(strcmp(text, name) == 0);
        taken++;
    }
    assert(taken == 150);
    kv_trouble_close(&trouble);
    kv_addresses_close(addresses);
}

static void refusals_are_counted(void)
{
    kv_addresses *addresses;
    kv_trouble trouble;
    char text[1];

    assert(kv_addresses_open(&addresses) == 0);
    assert(kv_trouble_open(&trouble) == 0);
    kv_trouble_refused(&trouble);
    kv_trouble_refused(&trouble);
    assert(kv_trouble_count(&trouble) == 2 && is_readable(&trouble));
    assert(kv_trouble_take(&trouble, addresses, text, sizeof(text)) == 2);
    assert(!is_readable(&trouble) && kv_trouble_count(&trouble) == 2);
    kv_trouble_close(&trouble);
    kv_addresses_close(addresses);
}

int main(void)
{
    an_endpoint_is_told_once();
    what_does_not_fit_comes_next_time();
    refusals_are_counted();
    return 0;
}
