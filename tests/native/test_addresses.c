/* Endpoints and their addresses: numbered once, digits known at once, names looked up on the side.
 * */

#include "client/addresses.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static void an_endpoint_keeps_its_number(void)
{
    kv_addresses *addresses;
    uint32_t first, second, again;

    assert(kv_addresses_open(&addresses) == 0);
    assert(kv_addresses_add(addresses, "127.0.0.1:80", &first) == 0);
    assert(kv_addresses_add(addresses, "127.0.0.1:81", &second) == 0);
    assert(kv_addresses_add(addresses, "127.0.0.1:80", &again) == 0);
    assert(first == 0 && second == 1 && again == 0);
    assert(strcmp(kv_addresses_name(addresses, second), "127.0.0.1:81") == 0);
    kv_addresses_close(addresses);
}

static void what_is_no_host_and_port_is_refused(void)
{
    static const char *const names[] = {"",           ":",
                                        "host",       ":80",
                                        "host:",      "host:0",
                                        "host:65536", "host:8x",
                                        "host:-1",    "host:0000000080"};
    kv_addresses *addresses;
    uint32_t endpoint;

    assert(kv_addresses_open(&addresses) == 0);
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert(kv_addresses_add(addresses, names[i], &endpoint) == -EINVAL);
    kv_addresses_close(addresses);
}

static void digits_are_known_at_once(void)
{
    kv_addresses *addresses;
    struct sockaddr_storage address;
    socklen_t size;
    uint32_t four, six;

    assert(kv_addresses_open(&addresses) == 0);
    assert(kv_addresses_add(addresses, "127.0.0.1:4711", &four) == 0);
    assert(kv_addresses_add(addresses, "[::1]:4712", &six) == 0);
    assert(kv_addresses_find(addresses, four, 3, 0, &address, &size) == 0);
    assert(((struct sockaddr_in *)&address)->sin_port == htons(4711));
    assert(kv_addresses_find(addresses, six, 0, 0, &address, &size) == 0);
    assert(address.ss_family == AF_INET6 &&
           ((struct sockaddr_in6 *)&address)->sin6_port == htons(4712));
    kv_addresses_close(addresses);
}

static void a_name_is_looked_up_beside_the_caller(void)
{
    kv_addresses *addresses;
    struct sockaddr_storage address;
    socklen_t size;
    uint32_t known, unknown;
    int result;

    assert(kv_addresses_open(&addresses) == 0);
    assert(kv_addresses_add(addresses, "localhost:80", &known) == 0);
    assert(kv_addresses_add(addresses, "no_such_name.invalid:80", &unknown) == 0);
    assert(kv_addresses_find(addresses, known, 0, 0, &address, &size) == -EINPROGRESS);
    do
        result = kv_addresses_find(addresses, known, 0, 0, &address, &size);
    while (result == -EINPROGRESS);
    assert(result == 0);
    do
        result = kv_addresses_find(addresses, unknown, 0, 0, &address, &size);
    while (result == -EINPROGRESS);
    assert(result == -EHOSTUNREACH);
    assert(kv_addresses_find(addresses, unknown, 1, UINT64_MAX, &address, &size) == -EINPROGRESS);
    kv_addresses_close(addresses); /* while it is being looked up */
}

int main(void)
{
    an_endpoint_keeps_its_number();
    what_is_no_host_and_port_is_refused();
    digits_are_known_at_once();
    a_name_is_looked_up_beside_the_caller();
    return 0;
}
