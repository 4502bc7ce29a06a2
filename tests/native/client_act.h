/* What a client may do with one key, and when an answer can be true: the rule of both simulations'
 * checkers. A key holds a write by its name; 0: it is absent. */
#ifndef CLIENT_ACT_H
#define CLIENT_ACT_H

#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum client_act { ACT_READ, ACT_SET, ACT_SET_IF_ABSENT, ACT_DELETE } client_act;

/* Whether an act of `write` (written or read) may come next where the key holds `held`, and what it
 * holds after it. `known`: the outcome, `status`, is. */
static inline bool act_allowed(client_act act, uint64_t write, kv_status status, bool known,
                               uint64_t held, uint64_t *after)
{
    *after = held;
    switch (act) {
    case ACT_READ:
        return write == held;
    case ACT_SET:
        *after = write;
        return true;
    case ACT_SET_IF_ABSENT:
        if (status == KV_EXISTS)
            return held != 0;
        *after = write;
        return held == 0;
    default:
        if (known && status == KV_NOT_FOUND)
            return held == 0;
        *after = 0;
        return held != 0;
    }
}

#endif
