/* The table of keys of a replica: who holds each key, and who waits for it in which order.
 *
 * Equal keys of one update stand next to each other in the queue, because an update enters all its
 * queues at once; together they are one blocker, and they leave together. */

#include "protocol/replica_state.h"

#include <assert.h>
#include <string.h>

static bool keys_equal(const kv_update_key *key, const uint8_t *bytes, uint32_t size, uint64_t hash)
{
    return key->hash == hash && key->key_size == size && memcmp(key->key, bytes, size) == 0;
}

/* Where the front of a key is linked, or would be. */
static kv_update_key **front_find(kv_replica *replica, const kv_update_key *like)
{
    kv_update_key **at = &replica->places[like->hash & replica->place_mask];

    while (*at && !keys_equal(*at, like->key, like->key_size, like->hash))
        at = &(*at)->next;
    return at;
}

static void key_link(kv_replica *replica, kv_update *update, kv_update_key *key)
{
    kv_update_key **at = front_find(replica, key), *front = *at;

    key->next = NULL;
    key->behind = NULL;
    key->last = NULL;
    key->update = update;
    key->linked = true;
    if (!front) {
        key->last = key;
        *at = key;
        return;
    }
    assert(front->last && !front->last->behind);
    if (front->last->update != update)
        update->blockers++;
    front->last->behind = key;
    front->last = key;
}

void kv_replica_keys_link(kv_replica *replica, kv_update *update)
{
    update->blockers = 0;
    for (uint32_t i = 0; i < update->count; i++)
        key_link(replica, update, &update->keys[i]);
}

static void unblock(kv_replica *replica, kv_update *update)
{
    assert(update->state == KV_UPDATE_QUEUED);
    assert(update->blockers > 0);
    if (--update->blockers > 0)
        return;
    kv_list_remove(&update->link);
    kv_list_append(&replica->ready, &update->link);
}

/* The front goes: whoever stands behind it holds the key. */
static void front_unlink(kv_replica *replica, kv_update_key **at)
{
    kv_update_key *front = *at, *heir = front->behind;

    if (!heir) {
        *at = front->next;
        return;
    }
    heir->next = front->next;
    heir->last = front->last;
    *at = heir;
    if (heir->update != front->update)
        unblock(replica, heir->update);
}

static void key_unlink(kv_replica *replica, kv_update_key *key)
{
    kv_update_key **at = front_find(replica, key), *before = *at;

    assert(key->linked && before);
    key->linked = false;
    if (before == key) {
        front_unlink(replica, at);
        return;
    }
    while (before->behind != key) {
        assert(before->behind);
        before = before->behind;
    }
    before->behind = key->behind;
    if ((*at)->last == key)
        (*at)->last = before;
}

void kv_replica_keys_unlink(kv_replica *replica, kv_update *update)
{
    for (uint32_t i = 0; i < update->count; i++)
        key_unlink(replica, &update->keys[i]);
}

const kv_update *kv_replica_holder(const kv_replica *replica, const uint8_t *key, uint32_t key_size,
                                   uint64_t hash)
{
    const kv_update_key *front = replica->places[hash & replica->place_mask];

    while (front && !keys_equal(front, key, key_size, hash))
        front = front->next;
    return front ? front->update : NULL;
}

/* How many of an update's keys others hold, by walking every queue. */
static uint32_t blockers_of(const kv_replica *replica, const kv_update *update)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < update->count; i++) {
        const kv_update_key *key = &update->keys[i];
        const kv_update_key *at = replica->places[key->hash & replica->place_mask];
        const kv_update *before = NULL;

        while (at && !keys_equal(at, key->key, key->key_size, key->hash))
            at = at->next;
        assert(at);
        for (; at != key; at = at->behind) {
            assert(at);
            before = at->update;
        }
        count += before && before != update;
    }
    return count;
}

static void queue_invariants(const kv_update_key *front)
{
    const kv_update_key *last = front;

    for (const kv_update_key *at = front; at; at = at->behind) {
        assert(at->linked);
        assert(at->update->state == KV_UPDATE_QUEUED || at->update->state == KV_UPDATE_RUNNING);
        assert(at->update->state == KV_UPDATE_QUEUED || at->update == front->update);
        assert(at == front || keys_equal(at, front->key, front->key_size, front->hash));
        last = at;
    }
    assert(front->last == last);
}

void kv_replica_keys_invariants(const kv_replica *replica)
{
    const kv_list *lists[] = {&replica->queued, &replica->ready, &replica->running};

    for (uint32_t place = 0; place <= replica->place_mask; place++)
        for (const kv_update_key *at = replica->places[place]; at; at = at->next) {
            assert((at->hash & replica->place_mask) == place);
            queue_invariants(at);
        }
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const kv_list *at = lists[i]->next; at != lists[i]; at = at->next) {
            const kv_update *update = KV_CONTAINER(at, const kv_update, link);

            assert(update->blockers == blockers_of(replica, update));
            assert((update->blockers > 0) == (lists[i] == &replica->queued));
        }
}
