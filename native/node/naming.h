/* A step of a LEND, and the naming of the items that have their status by then. */
#ifndef KV_NAMING_H
#define KV_NAMING_H

#include "engine/engine.h"

/* What was named so far; `order` is where items go as they are named, NULL: nobody wants to
 * know. */
typedef struct kv_naming {
    uint32_t count;  /* of the operation's items */
    uint32_t *named; /* how many were */
    uint32_t *order;
} kv_naming;

/* Naming the last item brings about the step that answers: claimed before, it need not come by
 * mail. True: that step is to be made. */
static inline bool kv_naming_take(kv_operation *operation, const kv_naming *naming)
{
    bool claimed = false;
    int64_t item = 0;

    while (*naming->named < naming->count && item >= 0) {
        if (*naming->named + 1 == naming->count && !claimed)
            claimed = kv_operation_claim(operation);
        item = kv_operation_next(operation);
        if (item < 0)
            break;
        if (naming->order)
            naming->order[*naming->named] = (uint32_t)item;
        ++*naming->named;
    }
    return claimed;
}

/* True: the operation is finished. */
static inline bool kv_naming_step(kv_operation *operation, const kv_naming *naming)
{
    bool finished;

    do
        finished = kv_operation_step(operation);
    while (!finished && kv_naming_take(operation, naming));
    return finished;
}

#endif
