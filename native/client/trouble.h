/* What whoever fetches routing info should hear of: endpoints that could not be reached, and how
 * often a chain refused a part or had nobody. Told by an eventfd, taken all at once; of what nobody
 * takes each endpoint is kept once. Thread-safe. */
#ifndef KV_TROUBLE_H
#define KV_TROUBLE_H

#include "client/addresses.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct kv_trouble {
    pthread_mutex_t mutex;
    int descriptor;
    bool told;      /* the descriptor is readable */
    uint64_t count; /* of parts that were refused, or found nobody */
    uint32_t unreachable_count;
    uint64_t unreachable[KV_CLIENT_ENDPOINTS_MAX / 64]; /* a bit for each endpoint */
} kv_trouble;

/* A negative errno: the process has no descriptor left. */
int kv_trouble_open(kv_trouble *trouble);
void kv_trouble_close(kv_trouble *trouble);
/* In the child of a fork. */
void kv_trouble_abandon(kv_trouble *trouble);
void kv_trouble_unreachable(kv_trouble *trouble, uint32_t endpoint);
void kv_trouble_refused(kv_trouble *trouble);
int64_t kv_trouble_count(kv_trouble *trouble);
/* Names of unreachable endpoints, each with a newline, as many as fit; returns the count. */
int64_t kv_trouble_take(kv_trouble *trouble, kv_addresses *addresses, char *text, uint32_t size);

#endif
