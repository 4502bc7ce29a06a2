/* A model of what every key of a store may hold, for engine tests.
 *
 * It keeps for each key the updates issued so far, in order, and the earliest one that a read may still
 * return. Contents are computed from (key, update), so a value proves which update it is. Pins have a
 * history of their own. An update whose answer was an abort may or may not have happened. */
#ifndef KV_ENGINE_MODEL_H
#define KV_ENGINE_MODEL_H

#include "bytes/random.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_KEYS 48u
#define MODEL_PIN_KEYS 6u /* the first ones: pinned and set, never deleted, never expiring */
#define MODEL_VALUE_MAX 120000u
#define MODEL_UPDATES_MAX 768u
#define MODEL_PINS_MAX 256u
#define MODEL_NAME_SIZE 32u

typedef enum model_kind {
    UPDATE_SET = 0,
    UPDATE_DELETE = 1,
    UPDATE_VOID = 2 /* it had no effect, or a crash took it */
} model_kind;

typedef struct model_update {
    model_kind kind;
    uint64_t expiry_first_ms; /* it expires within these; 0: never */
    uint64_t expiry_last_ms;
    uint64_t version; /* in its chain; 0: none */
} model_update;

typedef struct model_key {
    uint32_t issued;  /* updates so far; update 0 is "never set" */
    uint32_t acked;   /* the last acknowledged update: reads return it or a later one */
    uint32_t flushed; /* the last one that a flush has answered for */
    bool busy;        /* an update of it is out */
    uint32_t pin_issued;
    uint32_t pin_acked;
    uint32_t pin_flushed;
    uint8_t pins[MODEL_PINS_MAX];
    model_update updates[MODEL_UPDATES_MAX];
} model_key;

typedef struct model {
    model_key keys[MODEL_KEYS];
    uint64_t seed;  /* for messages */
    bool may_evict; /* any key that is not pinned may go at any time */
} model;

static inline void model_fail(const model *state, uint32_t key, const char *what, uint64_t number)
{
    const model_key *row = &state->keys[key];

    fprintf(stderr, "seed %llu: key %u %s %llu; updates: issued %u acked %u flushed %u\n",
            (unsigned long long)state->seed, key, what, (unsigned long long)number, row->issued,
            row->acked, row->flushed);
    abort();
}

/* Names of several lengths. */
static inline void model_name(uint32_t key, char name[MODEL_NAME_SIZE])
{
    snprintf(name, MODEL_NAME_SIZE, "key-%0*u", (int)(1 + key % 12), key);
}

/* Empty, or long enough that no two updates have the same bytes. */
static inline uint32_t model_value_size(uint32_t key, uint32_t update)
{
    kv_random random;

    kv_random_init(&random, (uint64_t)key << 32 | update);
    switch (kv_random_below(&random, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return 8 + (uint32_t)kv_random_below(&random, 700);
    case 3:
        return 4096u * (1 + (uint32_t)kv_random_below(&random, 8));
    case 4:
        return 8 + (uint32_t)kv_random_below(&random, MODEL_VALUE_MAX - 8);
    default:
        return 8 + (uint32_t)kv_random_below(&random, 20000);
    }
}

static inline uint64_t model_value_begin(uint32_t key, uint32_t update)
{
    return ((uint64_t)key << 32 | update) * 0x9e3779b97f4a7c15u + 1;
}

static inline void model_value_fill(uint32_t key, uint32_t update, uint8_t *value, uint32_t size)
{
    uint64_t word = model_value_begin(key, update);

    for (uint32_t i = 0; i < size; i += 8) {
        uint32_t part = size - i < 8 ? size - i : 8;

        memcpy(value + i, &word, part);
        word = word * 6364136223846793005u + 1442695040888963407u;
    }
}

/* Which update of the key is this value? It must be one from `least` on that had not expired at `now_ms`. */
static inline uint32_t model_value_update(const model *state, uint32_t key, const uint8_t *value,
                                          uint32_t size, uint32_t least, uint64_t now_ms)
{
    static uint8_t expected[MODEL_VALUE_MAX + 8];
    const model_key *row = &state->keys[key];

    for (uint32_t i = row->issued; i + 1 > least && i > 0; i--) {
        const model_update *update = &row->updates[i];
        uint64_t begin = model_value_begin(key, i);

        if (update->kind != UPDATE_SET || (size > 0 && memcmp(&begin, value, sizeof(begin)) != 0) ||
            model_value_size(key, i) != size ||
            (update->expiry_last_ms != 0 && update->expiry_last_ms <= now_ms))
            continue;
        model_value_fill(key, i, expected, size);
        if (memcmp(expected, value, size) == 0)
            return i;
    }
    model_fail(state, key, "holds bytes that are none of its updates from", least);
    return 0;
}

/* Whether every state that the pin may have since `least` is "pinned". */
static inline bool model_pinned(const model *state, uint32_t key, uint32_t least)
{
    const model_key *row = &state->keys[key];

    for (uint32_t i = least; i <= row->pin_issued; i++)
        if (row->pins[i] == 0)
            return false;
    return true;
}

/* Values tell updates apart, but for empty ones: of those it is the newest with such an expiry and version. */
static inline uint32_t model_empty_update(const model *state, uint32_t key, uint32_t least,
                                          uint64_t expiry_ms, uint64_t version)
{
    const model_key *row = &state->keys[key];

    for (uint32_t i = row->issued; i + 1 > least && i > 0; i--)
        if (row->updates[i].kind == UPDATE_SET && model_value_size(key, i) == 0 &&
            row->updates[i].version == version &&
            row->updates[i].expiry_first_ms <= expiry_ms && expiry_ms <= row->updates[i].expiry_last_ms)
            return i;
    model_fail(state, key, "is empty as none of its updates is from", least);
    return 0;
}

/* The newest update from `least` on that leaves the key absent at `now_ms`; none may fit: then -1. */
static inline int64_t model_absent_update(const model *state, uint32_t key, uint32_t least,
                                          uint32_t pin_least, uint64_t now_ms)
{
    const model_key *row = &state->keys[key];

    for (uint32_t i = row->issued + 1; i-- > least;) {
        const model_update *update = &row->updates[i];

        if (i == 0 || update->kind == UPDATE_DELETE)
            return i;
        if (update->kind == UPDATE_SET && update->expiry_first_ms != 0 &&
            update->expiry_first_ms <= now_ms)
            return i;
    }
    return state->may_evict && !model_pinned(state, key, pin_least) ? (int64_t)least : -1;
}

/* Issue an update; its number. */
static inline uint32_t model_issue(model *state, uint32_t key, model_kind kind, uint64_t expiry_first_ms)
{
    model_key *row = &state->keys[key];
    uint32_t update = ++row->issued;

    assert(!row->busy && update < MODEL_UPDATES_MAX);
    row->busy = true;
    row->updates[update] = (model_update){.kind = kind,
                                          .expiry_first_ms = expiry_first_ms,
                                          .expiry_last_ms = expiry_first_ms ? UINT64_MAX : 0};
    return update;
}

static inline bool model_may_issue(const model *state, uint32_t key)
{
    const model_key *row = &state->keys[key];

    return !row->busy && row->issued + 1 < MODEL_UPDATES_MAX && row->pin_issued + 1 < MODEL_PINS_MAX;
}

/* A crash, or nothing, left the key at this update. */
static inline void model_settle(model *state, uint32_t key, uint32_t update)
{
    model_key *row = &state->keys[key];

    for (uint32_t later = update + 1; later <= row->issued; later++)
        row->updates[later].kind = UPDATE_VOID;
    row->acked = update;
    row->flushed = update;
    row->busy = false;
}

static inline void model_settle_pin(model *state, uint32_t key, uint32_t least, bool pinned)
{
    model_key *row = &state->keys[key];
    uint32_t pin = row->pin_issued + 1;

    while (pin > least && row->pins[pin - 1] != pinned)
        pin--;
    if (pin == least)
        model_fail(state, key, "has a pin that it cannot have:", pinned);
    row->pin_issued = pin - 1;
    row->pin_acked = pin - 1;
    row->pin_flushed = pin - 1;
}

#endif
