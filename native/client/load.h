/* How busy the nodes are, as a client sees it: which member of a chain a read goes to, and whom to
 * leave alone for a while.
 *
 * Work is counted in units, so that one large read weighs as much as the small ones that take as
 * long. A node's cost is what a unit took there lately, or for how long it has kept its callers
 * waiting if that is more, times the units that are under way. Reads take the cheaper one of two members that are drawn at random (Mitzenmacher, The power of two
 * choices in randomized load balancing, 2001): always taking the cheapest makes all callers run to
 * the same one. What a unit took fades while nothing is under way, so that a node that was slow
 * once is tried again.
 *
 * Shared by all lanes: numbers are atomic and need not agree with each other. Pure: time and random
 * numbers come in. */
#ifndef KV_LOAD_H
#define KV_LOAD_H

#include "bytes/random.h"
#include "client/route_table.h"

typedef struct kv_load {
    atomic_ullong latency_ns; /* of a unit, smoothed; 0: not known */
    atomic_ullong heard_ns;   /* when that was noted last */
    atomic_ullong busy_ns;    /* since when something is under way */
    atomic_ullong avoid_ns;   /* until when it is left alone */
    atomic_uint units;        /* under way */
    atomic_uint failures;     /* in a row */
    uint32_t channels;        /* of updates, that it holds: see sequences.h */
} kv_load;

#define KV_LOAD_NOBODY UINT32_MAX /* an endpoint that none is */

/* What so many bytes of values weigh. */
uint32_t kv_load_units(uint64_t size);
void kv_load_enter(kv_load *load, uint32_t units, uint64_t now_ns);
void kv_load_leave(kv_load *load, uint32_t units);
/* An answer to so many units took so long. */
void kv_load_note(kv_load *load, uint32_t units, uint64_t elapsed_ns, uint64_t now_ns);
/* How long so many units took of late; 0: not known. */
uint64_t kv_load_usual_ns(const kv_load *load, uint32_t units);
/* The node could not be connected to, or was lost, or says nothing: others come first until a pause has passed that
 * grows with each failure. */
void kv_load_avoid(kv_load *load, uint64_t now_ns, kv_random *random);
/* It is there. */
void kv_load_reached(kv_load *load);
bool kv_load_is_avoided(const kv_load *load, uint64_t now_ns);
/* Which of the members a read goes to; `loads` by endpoint. The endpoint `excluded`, and those to
 * be left alone, only if there is nobody else. */
uint32_t kv_load_choose(const kv_load *loads, const kv_member *members, uint32_t count,
                        uint32_t excluded, uint64_t now_ns, kv_random *random);

#endif
