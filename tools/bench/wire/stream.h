/* What the client asks of the protocol that it speaks. Batches go out and come in separately, so
 * that several may be in flight; replies come in the order of requests.
 */

#ifndef BENCH_STREAM_H
#define BENCH_STREAM_H

#include "wire.h"

/* Keys of one batch. Their names begin at *keys*, KEY_SIZE bytes each. */
struct batch {
    unsigned count;
    size_t value_size;
    const uint32_t *slots;
    const char *keys;
};

struct protocol {
    const char *name;
    void (*send_get)(int socket, const struct batch *batch);
    /* Values go to *target*, one after another. */
    void (*receive_get)(int socket, const struct batch *batch, char *target);
    void (*set)(int socket, const struct batch *batch, char *const *sources);
};

extern const struct protocol ideal_protocol;
extern const struct protocol resp_protocol;

#endif
