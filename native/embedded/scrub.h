/* How fast a store's values are verified in the background: at a rate, and never anew before a pass
 * has had its least time, so that a small store is not read over and over. Pure: the caller has the
 * clock and does the reading. */
#ifndef KV_SCRUB_H
#define KV_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#define KV_SCRUB_STEP_MS 250u
#define KV_SCRUB_PASS_MS_MIN 10000u

typedef struct kv_scrub {
    uint64_t bytes_per_s;   /* 0: none */
    uint64_t cursor;        /* where the next step begins */
    uint64_t debt;          /* bytes verified ahead of the rate */
    uint64_t stepped_ms;    /* when the last step was */
    uint64_t pass_begun_ms;
} kv_scrub;

void kv_scrub_init(kv_scrub *scrub, uint64_t bytes_per_s, uint64_t now_ms);
/* How many bytes to verify now from the cursor on; 0: none yet. */
uint64_t kv_scrub_due(kv_scrub *scrub, uint64_t now_ms);
/* A step of due bytes verified this many, values being whole, and came to this cursor, UINT64_MAX at
 * the end. Returns whether that ended a pass. */
bool kv_scrub_stepped(kv_scrub *scrub, uint64_t due, uint64_t bytes, uint64_t cursor);

#endif
