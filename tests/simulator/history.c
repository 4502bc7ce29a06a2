/* Whether what clients saw of each key can be explained by one order of their operations, each
 * between its start and its end (Herlihy and Wing's linearizability; the search is Wing and
 * Gong's, remembering as Lowe's). It also says that nothing acknowledged was lost, and that
 * nothing happened twice.
 *
 * An operation whose outcome is not known may have happened at any time after its start, or
 * never. */

#include "simulator.h"

#define CHECKER_ENTRIES_MAX 4096u
#define CHECKER_WORDS (CHECKER_ENTRIES_MAX / 64u)
#define CHECKER_SEEN_MAX (1u << 20)

typedef struct checker_place {
    uint64_t done[CHECKER_WORDS]; /* which entries were put in order */
    uint64_t write;               /* of the key, after them */
    bool used;
} checker_place;

typedef struct checker {
    const sim_entry *entries[CHECKER_ENTRIES_MAX]; /* by start */
    uint32_t count, words, left; /* left: those with a known outcome that are not in order yet */
    uint32_t first;              /* before it all are in order */
    checker_place now;
    checker_place *seen;
    uint32_t seen_count, seen_room;
    bool gave_up;
} checker;

void sim_record(sim_world *world, sim_entry entry)
{
    world->history = sim_grow(world->history, world->history_count, &world->history_room,
                              sizeof(*world->history));
    world->history[world->history_count++] = entry;
}

void sim_excuse_key(sim_world *world, uint32_t key, uint64_t from)
{
    world->excuses = sim_grow(world->excuses, world->excuse_count, &world->excuse_room,
                              sizeof(*world->excuses));
    world->excuses[world->excuse_count++] = (sim_excuse){from, world->now, key};
}

static bool is_done(const checker *all, uint32_t i)
{
    return all->now.done[i / 64] >> i % 64 & 1;
}

/* The place in `seen` of what is now, or where it would be. */
static checker_place *seen_find(checker *all, const checker_place *place)
{
    size_t size = all->words * sizeof(uint64_t);
    uint64_t hash = kv_hash(place->write, place->done, size);

    for (uint64_t i = 0;; i++) {
        checker_place *at = &all->seen[(hash + i) & (all->seen_room - 1)];

        if (!at->used || (at->write == place->write && memcmp(at->done, place->done, size) == 0))
            return at;
    }
}

static void seen_grow(checker *all)
{
    checker_place *old = all->seen;
    uint32_t old_room = all->seen_room;

    all->seen_room = old_room ? old_room * 2 : 256;
    all->seen = calloc(all->seen_room, sizeof(*all->seen));
    assert(all->seen != NULL);
    for (uint32_t i = 0; i < old_room; i++)
        if (old[i].used)
            *seen_find(all, &old[i]) = old[i];
    free(old);
}

/* True: it was not there. */
static bool seen_add(checker *all)
{
    checker_place *at;

    if (all->seen_count * 2 >= all->seen_room) {
        if (all->seen_room == CHECKER_SEEN_MAX) {
            all->gave_up = true;
            return false;
        }
        seen_grow(all);
    }
    at = seen_find(all, &all->now);
    if (at->used)
        return false;
    *at = all->now;
    at->used = true;
    all->seen_count++;
    return true;
}

/* Whether an entry may come next, and what the key holds after it. */
static bool entry_allowed(const sim_entry *entry, uint64_t write, uint64_t *after)
{
    return act_allowed(entry->act, entry->write, entry->status, entry->end != FOREVER, write, after);
}

/* An entry may come next only if no other one that is not in order yet ended before it began. */
static uint64_t end_first(const checker *all)
{
    uint64_t end = FOREVER;

    for (uint32_t i = all->first; i < all->count && all->entries[i]->start <= end; i++)
        if (!is_done(all, i) && all->entries[i]->end < end)
            end = all->entries[i]->end;
    return end;
}

static bool search(checker *all);

/* `alone`: nothing else can come next, so that no other way leads here that is worth remembering. */
static bool try_entry(checker *all, uint32_t i, uint64_t after, bool alone)
{
    uint64_t before = all->now.write;
    uint32_t first = all->first;
    bool known = all->entries[i]->end != FOREVER, found;

    all->now.done[i / 64] |= 1ull << i % 64;
    all->now.write = after;
    all->left -= known;
    while (all->first < all->count && is_done(all, all->first))
        all->first++;
    found = (alone || seen_add(all)) && search(all);
    all->first = first;
    all->now.done[i / 64] &= ~(1ull << i % 64);
    all->now.write = before;
    all->left += known;
    return found;
}

static bool may_be_next(const checker *all, uint32_t i, uint64_t *after)
{
    return !is_done(all, i) && entry_allowed(all->entries[i], all->now.write, after);
}

/* What changes nothing and fits comes first, without trying anything else: it fits nowhere
 * better. */
static bool search(checker *all)
{
    uint64_t end = end_first(all);
    uint32_t count = 0;
    uint64_t after;

    if (all->left == 0)
        return true;
    for (uint32_t i = all->first; i < all->count && all->entries[i]->start <= end; i++) {
        if (!may_be_next(all, i, &after))
            continue;
        if (after == all->now.write)
            return try_entry(all, i, after, true);
        count++;
    }
    for (uint32_t i = all->first; i < all->count && all->entries[i]->start <= end; i++)
        if (may_be_next(all, i, &after) && try_entry(all, i, after, count == 1))
            return true;
    return false;
}

static int entries_compare(const void *a, const void *b)
{
    const sim_entry *one = *(const sim_entry *const *)a;
    const sim_entry *other = *(const sim_entry *const *)b;

    return one->start != other->start ? (one->start < other->start ? -1 : 1) : one < other ? -1 : 1;
}

static void history_print(const sim_world *world, const checker *all)
{
    static const char *const acts[] = {"read", "set", "set if absent", "delete"};

    for (uint32_t i = 0; i < all->count; i++) {
        const sim_entry *entry = all->entries[i];

        sim_say(world, "  %.6f - %.6f %s %llu: status %d%s", (double)entry->start / 1e9,
                entry->end == FOREVER ? 0.0 : (double)entry->end / 1e9, acts[entry->act],
                (unsigned long long)entry->write, (int)entry->status,
                entry->end == FOREVER ? ", unknown" : "");
    }
}

static bool entry_excused(const sim_world *world, const sim_entry *entry)
{
    for (uint32_t i = 0; entry->act == ACT_READ && i < world->excuse_count; i++)
        if (world->excuses[i].key == entry->key && entry->end >= world->excuses[i].from &&
            entry->start <= world->excuses[i].to)
            return true;
    return false;
}

static void check_key(sim_world *world, const sim_entry *const *entries, uint32_t count)
{
    checker all = {0};
    bool found;

    for (uint32_t i = 0; i < count; i++) {
        if (entry_excused(world, entries[i])) {
            world->tally.excused_reads++;
            continue;
        }
        if (all.count == CHECKER_ENTRIES_MAX) {
            sim_fail(world, "key %u has too many operations to check", entries[i]->key);
            return;
        }
        all.entries[all.count++] = entries[i];
        all.left += entries[i]->end != FOREVER;
    }
    all.words = (all.count + 63) / 64;
    found = search(&all);
    free(all.seen);
    if (!found) {
        history_print(world, &all);
        sim_fail(world, "%s key %u (P1)",
                 all.gave_up ? "too many orders to try for"
                                : "no order of its operations explains what was seen of",
                 entries[0]->key);
    }
}

static int keys_compare(const void *a, const void *b)
{
    const sim_entry *one = *(const sim_entry *const *)a;
    const sim_entry *other = *(const sim_entry *const *)b;

    return one->key != other->key ? (one->key < other->key ? -1 : 1) : entries_compare(a, b);
}

void sim_check_history(sim_world *world)
{
    const sim_entry **entries = malloc((world->history_count + 1) * sizeof(*entries));
    uint32_t end;

    assert(entries != NULL);
    for (uint32_t i = 0; i < world->history_count; i++)
        entries[i] = &world->history[i];
    qsort(entries, world->history_count, sizeof(*entries), keys_compare);
    for (uint32_t i = 0; i < world->history_count && !world->failure[0]; i = end) {
        end = i;
        while (end < world->history_count && entries[end]->key == entries[i]->key)
            end++;
        check_key(world, entries + i, end - i);
    }
    free(entries);
}

/* P7; and the last word on what later readers see. */
void sim_check_equal(sim_world *world, const uint32_t *targets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sim_storage_scrub(world, sim_target_of(world, targets[i]));
    for (uint32_t k = 0; k < world->options.keys; k++) {
        uint32_t key = sim_target_of(world, targets[0])->chain * world->options.keys + k;
        uint64_t write = 0, version = 0;

        for (uint32_t i = 0; i < count; i++) {
            sim_target *target = sim_target_of(world, targets[i]);
            kv_item_stat stat = {0};
            uint32_t size;
            uint64_t here = sim_storage_get(world, target, key);

            sim_storage_peek(target, key, &stat, &size);
            if (i > 0 && (here != write || stat.version != version))
                sim_fail(world, "targets %u and %u differ at key %u: writes %llu and %llu (P7)",
                         targets[0], targets[i], key, (unsigned long long)write,
                         (unsigned long long)here);
            write = here;
            version = stat.version;
        }
        sim_record(world, (sim_entry){.key = key, .act = ACT_READ, .write = write,
                                      .start = world->now, .end = world->now});
    }
}
