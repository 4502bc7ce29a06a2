/* See scrub.h. */

#include "embedded/scrub.h"

#include <assert.h>

void kv_scrub_init(kv_scrub *scrub, uint64_t bytes_per_s, uint64_t now_ms)
{
    *scrub = (kv_scrub){
        .bytes_per_s = bytes_per_s,
        .stepped_ms = now_ms,
        .pass_begun_ms = now_ms,
    };
}

uint64_t kv_scrub_due(kv_scrub *scrub, uint64_t now_ms)
{
    uint64_t bytes;

    if (scrub->bytes_per_s == 0 || now_ms < scrub->stepped_ms + KV_SCRUB_STEP_MS)
        return 0;
    bytes = scrub->bytes_per_s * (now_ms - scrub->stepped_ms) / 1000;
    scrub->stepped_ms = now_ms;
    if (bytes <= scrub->debt) {
        scrub->debt -= bytes;
        return 0;
    }
    return bytes - scrub->debt;
}

bool kv_scrub_stepped(kv_scrub *scrub, uint64_t due, uint64_t bytes, uint64_t cursor)
{
    assert(due > 0);
    scrub->debt = bytes > due ? bytes - due : 0;
    scrub->cursor = cursor;
    if (cursor != UINT64_MAX)
        return false;
    scrub->cursor = 0;
    /* The next pass begins then: its first step is given the time of one step, not of the rest. */
    scrub->pass_begun_ms += KV_SCRUB_PASS_MS_MIN;
    if (scrub->pass_begun_ms < scrub->stepped_ms)
        scrub->pass_begun_ms = scrub->stepped_ms;
    else
        scrub->stepped_ms = scrub->pass_begun_ms;
    return true;
}
