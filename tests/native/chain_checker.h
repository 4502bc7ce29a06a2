/* Whether what clients saw of each key can be explained by one order of their operations, each
 * between its start and its end (Herlihy and Wing's linearizability; the search is Wing and
 * Gong's, remembering as Lowe's).
 *
 * An operation whose outcome is not known may have happened at any time after its start, or
 * never. */
#ifndef KV_CHAIN_CHECKER_H
#define KV_CHAIN_CHECKER_H

#include "chain_world.h"

#define CHECKER_ENTRIES_MAX 512u
#define CHECKER_WORDS (CHECKER_ENTRIES_MAX / 64u)
#define CHECKER_SEEN_MAX (1u << 20)

typedef struct checker_place {
    uint64_t done[CHECKER_WORDS]; /* which entries were put in order */
    uint32_t value;               /* of the key, after them */
    bool used;
} checker_place;

typedef struct checker {
    const chain_entry *entries[CHECKER_ENTRIES_MAX]; /* by start */
    uint32_t count, left; /* left: those with a known outcome that are not in order yet */
    checker_place now;
    checker_place *seen;
    uint32_t seen_count, seen_room;
} checker;

static inline bool checker_done(const checker *all, uint32_t i)
{
    return all->now.done[i / 64] >> i % 64 & 1;
}

/* The place in `seen` of what is now, or where it would be. */
static inline checker_place *seen_find(checker *all, const checker_place *place)
{
    uint64_t hash = kv_hash(place->value, place->done, sizeof(place->done));

    for (uint64_t i = 0;; i++) {
        checker_place *at = &all->seen[(hash + i) & (all->seen_room - 1)];

        if (!at->used || (at->value == place->value &&
                          memcmp(at->done, place->done, sizeof(at->done)) == 0))
            return at;
    }
}

static inline void seen_grow(checker *all)
{
    checker_place *old = all->seen;
    uint32_t old_room = all->seen_room;

    all->seen_room = old_room ? old_room * 2 : 256;
    assert(all->seen_room <= CHECKER_SEEN_MAX);
    all->seen = calloc(all->seen_room, sizeof(*all->seen));
    assert(all->seen != NULL);
    for (uint32_t i = 0; i < old_room; i++)
        if (old[i].used)
            *seen_find(all, &old[i]) = old[i];
    free(old);
}

/* True: it was not there. */
static inline bool seen_add(checker *all)
{
    checker_place *at;

    if (all->seen_count * 2 >= all->seen_room)
        seen_grow(all);
    at = seen_find(all, &all->now);
    if (at->used)
        return false;
    *at = all->now;
    at->used = true;
    all->seen_count++;
    return true;
}

/* Whether an entry may come next, and what the key holds after it. */
static inline bool entry_allowed(const chain_entry *entry, uint32_t value, uint32_t *after)
{
    uint64_t held;
    bool known = entry->end != FOREVER;
    bool allowed = act_allowed(entry->act, entry->value, entry->status, known, value, &held);

    *after = (uint32_t)held;
    return allowed;
}

/* An entry may come next only if no other one that is not in order yet ended before it began. */
static inline uint64_t end_first(const checker *all)
{
    uint64_t end = FOREVER;

    for (uint32_t i = 0; i < all->count; i++)
        if (!checker_done(all, i) && all->entries[i]->end < end)
            end = all->entries[i]->end;
    return end;
}

static inline bool checker_search(checker *all);

static inline bool checker_try(checker *all, uint32_t i, uint32_t after)
{
    uint32_t before = all->now.value;
    bool known = all->entries[i]->end != FOREVER, found;

    all->now.done[i / 64] |= 1ull << i % 64;
    all->now.value = after;
    all->left -= known;
    found = seen_add(all) && checker_search(all);
    all->now.done[i / 64] &= ~(1ull << i % 64);
    all->now.value = before;
    all->left += known;
    return found;
}

/* What changes nothing and fits comes first, without trying anything else: it fits nowhere
 * better. */
static inline bool checker_search(checker *all)
{
    uint64_t end = end_first(all);
    uint32_t after;

    if (all->left == 0)
        return true;
    for (uint32_t i = 0; i < all->count && all->entries[i]->start <= end; i++)
        if (!checker_done(all, i) && entry_allowed(all->entries[i], all->now.value, &after) &&
            after == all->now.value)
            return checker_try(all, i, after);
    for (uint32_t i = 0; i < all->count && all->entries[i]->start <= end; i++)
        if (!checker_done(all, i) && entry_allowed(all->entries[i], all->now.value, &after) &&
            checker_try(all, i, after))
            return true;
    return false;
}

static inline int entries_compare(const void *a, const void *b)
{
    const chain_entry *one = *(const chain_entry *const *)a;
    const chain_entry *other = *(const chain_entry *const *)b;

    return one->start != other->start ? (one->start < other->start ? -1 : 1) : one < other ? -1 : 1;
}

static inline void history_print(const checker *all)
{
    static const char *const acts[] = {"read", "set", "set if absent", "delete"};

    for (uint32_t i = 0; i < all->count; i++) {
        const chain_entry *entry = all->entries[i];

        fprintf(stderr, "  %llu - ", (unsigned long long)entry->start);
        if (entry->end == FOREVER)
            fprintf(stderr, "?");
        else
            fprintf(stderr, "%llu", (unsigned long long)entry->end);
        fprintf(stderr, " %s %u: status %d\n", acts[entry->act], entry->value,
                (int)entry->status);
    }
}

static inline bool entry_excused(const chain_world *world, const chain_entry *entry)
{
    for (uint32_t i = 0; entry->act == ACT_READ && i < world->excuse_count; i++)
        if (world->excuses[i].key == entry->key && entry->end >= world->excuses[i].from &&
            entry->start <= world->excuses[i].to)
            return true;
    return false;
}

static inline void chain_check(const chain_world *world)
{
    for (uint32_t key = 0; key < CHAIN_KEYS; key++) {
        checker all = {0};
        bool found;

        for (uint32_t i = 0; i < world->history_count; i++) {
            if (world->history[i].key != key || entry_excused(world, &world->history[i]))
                continue;
            assert(all.count < CHECKER_ENTRIES_MAX);
            all.entries[all.count++] = &world->history[i];
            all.left += world->history[i].end != FOREVER;
        }
        qsort(all.entries, all.count, sizeof(all.entries[0]), entries_compare);
        found = checker_search(&all);
        free(all.seen);
        if (found)
            continue;
        history_print(&all);
        chain_fail(world, "no order of its operations explains what was seen of key %u", key);
    }
}

#endif
