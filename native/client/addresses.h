/* The nodes that a client has heard of, as "host:port", and the socket addresses behind those
 * names.
 *
 * An endpoint keeps its number for the client's lifetime. Looking up a name can take seconds, so it
 * happens on a thread of its own, and who wants the answer asks again a little later; addresses in
 * digits are known at once. Thread-safe. */
#ifndef KV_ADDRESSES_H
#define KV_ADDRESSES_H

#include "client/client_limits.h"

#include <sys/socket.h>

typedef struct kv_addresses kv_addresses;

int kv_addresses_open(kv_addresses **addresses);
/* Waits for nobody: a name that is being looked up is forgotten. */
void kv_addresses_close(kv_addresses *addresses);
/* The number of an endpoint, a new one if need be. -EINVAL: no "host:port". -ENOSPC, -ENOMEM. */
int kv_addresses_add(kv_addresses *addresses, const char *name, uint32_t *endpoint);
uint32_t kv_addresses_count(kv_addresses *addresses);
/* "host:port"; stays in place. */
const char *kv_addresses_name(kv_addresses *addresses, uint32_t endpoint);
/* An address to connect to, another one of the endpoint's with each attempt. -EINPROGRESS: the name
 * is being looked up. -EHOSTUNREACH: it is not known. Names are looked up anew with an attempt
 * above 0, though not too often. */
int kv_addresses_find(kv_addresses *addresses, uint32_t endpoint, uint32_t attempt, uint64_t now_ns,
                      struct sockaddr_storage *address, socklen_t *size);

#endif
