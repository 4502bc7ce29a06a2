/* See addresses.h. A name is looked up by a detached thread that holds a reference to everything it
 * touches, since getaddrinfo cannot be interrupted. */

#include "client/addresses.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000u
#define ENDPOINTS_FIRST 16u

typedef struct kv_endpoint {
    char name[KV_CLIENT_NODE_NAME_SIZE_MAX];
    char host[KV_CLIENT_NODE_NAME_SIZE_MAX];
    char port[8];
    struct sockaddr_storage addresses[KV_CLIENT_ADDRESSES_MAX];
    socklen_t sizes[KV_CLIENT_ADDRESSES_MAX];
    uint32_t count;
    bool numeric;
    bool resolving;
    bool resolved; /* since then somebody may have found it wrong */
    uint64_t resolved_ns;
} kv_endpoint;

struct kv_addresses {
    pthread_mutex_t mutex;
    kv_endpoint **endpoints;
    uint32_t count;
    uint32_t capacity;
    uint32_t references; /* the client's, and one for each thread */
};

/* One name on its way. */
typedef struct kv_lookup {
    kv_addresses *addresses;
    kv_endpoint *endpoint;
    uint64_t now_ns;
} kv_lookup;

int kv_addresses_open(kv_addresses **result)
{
    kv_addresses *addresses = calloc(1, sizeof(*addresses));

    if (!addresses)
        return -ENOMEM;
    pthread_mutex_init(&addresses->mutex, NULL);
    addresses->references = 1;
    *result = addresses;
    return 0;
}

/* Locked; unlocks. */
static void addresses_release(kv_addresses *addresses)
{
    bool last;

    assert(addresses->references > 0);
    last = --addresses->references == 0;
    pthread_mutex_unlock(&addresses->mutex);
    if (!last)
        return;
    for (uint32_t i = 0; i < addresses->count; i++)
        free(addresses->endpoints[i]);
    free(addresses->endpoints);
    pthread_mutex_destroy(&addresses->mutex);
    free(addresses);
}

void kv_addresses_close(kv_addresses *addresses)
{
    pthread_mutex_lock(&addresses->mutex);
    addresses_release(addresses);
}

/* "host:port" or "[host]:port". */
static int name_split(const char *name, kv_endpoint *endpoint)
{
    const char *colon = strrchr(name, ':');
    size_t size = strlen(name);
    size_t host_size;
    char *end;
    long port;

    if (!colon || size >= sizeof(endpoint->name) || colon == name)
        return -EINVAL;
    port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 1 || port > UINT16_MAX ||
        strlen(colon + 1) >= sizeof(endpoint->port))
        return -EINVAL;
    memcpy(endpoint->name, name, size + 1);
    memcpy(endpoint->port, colon + 1, strlen(colon + 1) + 1);
    host_size = (size_t)(colon - name);
    if (name[0] == '[' && host_size > 2 && colon[-1] == ']') {
        name++;
        host_size -= 2;
    }
    memcpy(endpoint->host, name, host_size);
    endpoint->host[host_size] = '\0';
    return 0;
}

/* Ask the system; `flags` as for getaddrinfo. Fills `out` with what it says; returns the count. */
static uint32_t look_up(const kv_endpoint *endpoint, int flags, struct sockaddr_storage *out,
                        socklen_t *sizes)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *list = NULL;
    uint32_t count = 0;

    if (getaddrinfo(endpoint->host, endpoint->port, &hints, &list) != 0)
        return 0;
    for (struct addrinfo *at = list; at && count < KV_CLIENT_ADDRESSES_MAX; at = at->ai_next) {
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6)
            continue;
        memcpy(&out[count], at->ai_addr, at->ai_addrlen);
        sizes[count++] = at->ai_addrlen;
    }
    freeaddrinfo(list);
    return count;
}

static int make_room(kv_addresses *addresses)
{
    uint32_t capacity = addresses->capacity ? addresses->capacity * 2 : ENDPOINTS_FIRST;
    kv_endpoint **endpoints;

    if (addresses->count < addresses->capacity)
        return 0;
    if (addresses->count >= KV_CLIENT_ENDPOINTS_MAX)
        return -ENOSPC;
    endpoints = realloc(addresses->endpoints, capacity * sizeof(kv_endpoint *));
    if (!endpoints)
        return -ENOMEM;
    addresses->endpoints = endpoints;
    addresses->capacity = capacity;
    return 0;
}

/* Locked. */
static int endpoint_make(kv_addresses *addresses, const char *name)
{
    int error = make_room(addresses);
    kv_endpoint *made;

    if (error < 0)
        return error;
    made = calloc(1, sizeof(*made));
    if (!made)
        return -ENOMEM;
    error = name_split(name, made);
    if (error < 0) {
        free(made);
        return error;
    }
    made->count = look_up(made, AI_NUMERICHOST | AI_NUMERICSERV, made->addresses, made->sizes);
    made->numeric = made->count > 0;
    addresses->endpoints[addresses->count++] = made;
    return 0;
}

int kv_addresses_add(kv_addresses *addresses, const char *name, uint32_t *result)
{
    uint32_t i = 0;
    int error = 0;

    pthread_mutex_lock(&addresses->mutex);
    while (i < addresses->count && strcmp(addresses->endpoints[i]->name, name) != 0)
        i++;
    if (i == addresses->count)
        error = endpoint_make(addresses, name);
    pthread_mutex_unlock(&addresses->mutex);
    *result = i;
    return error;
}

uint32_t kv_addresses_count(kv_addresses *addresses)
{
    uint32_t count;

    pthread_mutex_lock(&addresses->mutex);
    count = addresses->count;
    pthread_mutex_unlock(&addresses->mutex);
    return count;
}

const char *kv_addresses_name(kv_addresses *addresses, uint32_t number)
{
    const char *name;

    pthread_mutex_lock(&addresses->mutex);
    assert(number < addresses->count);
    name = addresses->endpoints[number]->name;
    pthread_mutex_unlock(&addresses->mutex);
    return name;
}

static void *lookup_thread(void *argument)
{
    kv_lookup *lookup = argument;
    kv_addresses *addresses = lookup->addresses;
    kv_endpoint *endpoint = lookup->endpoint;
    struct sockaddr_storage found[KV_CLIENT_ADDRESSES_MAX];
    socklen_t sizes[KV_CLIENT_ADDRESSES_MAX];
    uint32_t count = look_up(endpoint, AI_NUMERICSERV | AI_ADDRCONFIG, found, sizes);

    pthread_mutex_lock(&addresses->mutex);
    endpoint->resolving = false;
    endpoint->resolved = true;
    endpoint->resolved_ns = lookup->now_ns;
    if (count > 0) { /* otherwise what was known before is the best guess */
        memcpy(endpoint->addresses, found, sizeof(found[0]) * count);
        memcpy(endpoint->sizes, sizes, sizeof(sizes[0]) * count);
        endpoint->count = count;
    }
    addresses_release(addresses);
    free(lookup);
    return NULL;
}

/* Locked. */
static int lookup_begin(kv_addresses *addresses, kv_endpoint *endpoint, uint64_t now_ns)
{
    kv_lookup *started = malloc(sizeof(*started));
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    if (!started)
        return -ENOMEM;
    *started = (kv_lookup){addresses, endpoint, now_ns};
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    addresses->references++;
    endpoint->resolving = true;
    error = pthread_create(&thread, &attributes, lookup_thread, started);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        addresses->references--;
        endpoint->resolving = false;
        free(started);
    }
    return -error;
}

/* Locked. */
static bool wants_lookup(const kv_endpoint *endpoint, uint32_t attempt, uint64_t now_ns)
{
    if (endpoint->numeric || endpoint->resolving)
        return false;
    if (!endpoint->resolved)
        return true;
    return (attempt > 0 || endpoint->count == 0) &&
           now_ns > endpoint->resolved_ns + KV_CLIENT_RESOLVE_AGE_MS * NS_PER_MS;
}

int kv_addresses_find(kv_addresses *addresses, uint32_t number, uint32_t attempt, uint64_t now_ns,
                      struct sockaddr_storage *address, socklen_t *size)
{
    kv_endpoint *endpoint;
    int error = 0;

    pthread_mutex_lock(&addresses->mutex);
    assert(number < addresses->count);
    endpoint = addresses->endpoints[number];
    if (wants_lookup(endpoint, attempt, now_ns))
        error = lookup_begin(addresses, endpoint, now_ns);
    if (error == 0 && endpoint->resolving)
        error = -EINPROGRESS;
    if (error == 0 && endpoint->count == 0)
        error = -EHOSTUNREACH;
    if (error == 0) {
        *address = endpoint->addresses[attempt % endpoint->count];
        *size = endpoint->sizes[attempt % endpoint->count];
    }
    pthread_mutex_unlock(&addresses->mutex);
    return error;
}
