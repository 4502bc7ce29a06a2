/* See mover.h. What is to be sent is gathered here: from pages of the target's own objects, and
 * from what was noted. */

#include "node/mover_state.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define ENTRY_AT_SIZE 4u
#define NOTES_BESIDE_WALK (KV_NODE_RESYNC_BATCH_COUNT / 2) /* so that neither waits for ever */
#define KEY_WEIGHT 256u /* bytes that a key counts for, beside its value, where the rate is kept */

static void timer_expires(kv_timer *timer)
{
    kv_mover *mover = KV_CONTAINER(timer, kv_mover, timer);

    if (mover->refused) {
        mover->refused = false;
        kv_move_batch_send(mover);
    }
    kv_mover_look(mover);
}

int kv_mover_open(kv_chain *chain, kv_mover **result)
{
    kv_mover *mover = calloc(1, sizeof(*mover));

    if (!mover)
        return -ENOMEM;
    mover->chain = chain;
    mover->loop = kv_chain_loop(chain);
    mover->timer.expire = timer_expires;
    mover->mail.deliver = kv_move_batch_deliver;
    mover->owner = (kv_owner){.ready = kv_move_batch_ready, .answered = kv_move_batch_answered};
    kv_list_init(&mover->message.link);
    kv_list_init(&mover->notes);
    *result = mover;
    return 0;
}

/* Locked. */
static void notes_drop(kv_mover *mover)
{
    kv_list *link;

    while ((link = kv_list_pop(&mover->notes)) != NULL)
        free(KV_CONTAINER(link, kv_move_note, link));
    mover->note_count = 0;
    mover->overflown = false;
}

void kv_mover_close(kv_mover *mover)
{
    assert(!mover->batch || mover->batch->step == KV_MOVE_STEP_FREE);
    notes_drop(mover);
    free(mover->page);
    free(mover->batch);
    free(mover);
}

/* Stored keys have "default" as an empty name; the placement has it spelled out. Returns how many
 * bytes the name takes there. */
static uint32_t name_take(const uint8_t *bytes, char *name)
{
    uint32_t size = bytes[0];

    assert(size <= KV_NAME_SIZE_MAX);
    memcpy(name, bytes + 1, size);
    name[size] = '\0';
    if (size == 0)
        strcpy(name, "default");
    return size + 1;
}

bool kv_mover_has(const uint64_t *slots, uint32_t table_size, const void *key, uint32_t key_size)
{
    char tenant[KV_NAME_SIZE_MAX + 1];
    char name_space[KV_NAME_SIZE_MAX + 1];
    const uint8_t *bytes = key;
    uint32_t names_size = name_take(bytes, tenant);
    uint32_t slot;

    names_size += name_take(bytes + names_size, name_space);
    assert(names_size <= key_size);
    slot = kv_placement_slot(
        kv_placement_of(tenant, name_space, bytes + names_size, key_size - names_size), table_size);
    return slots[slot / 64] >> (slot % 64) & 1;
}

/* ---- behind the chain's mutex ---- */

void kv_mover_forget(kv_mover *mover)
{
    if (mover->wanted.id != 0)
        mover->id_ended = mover->wanted.id;
    mover->wanted.id = 0;
    mover->state = 0;
    mover->noting = false;
    notes_drop(mover);
}

void kv_mover_give(kv_mover *mover, const kv_move *move, const uint32_t *slots, uint32_t endpoint)
{
    kv_chain *chain = mover->chain;

    pthread_mutex_lock(&chain->mutex);
    if (move->id != mover->wanted.id || move->id == 0) {
        kv_mover_forget(mover);
        mover->sent = 0;
        memset(mover->slots, 0, sizeof(mover->slots));
        for (uint32_t i = 0; i < move->slot_count; i++)
            mover->slots[slots[i] / 64] |= 1ull << (slots[i] % 64);
        mover->state = move->id != 0 ? KV_MOVE_WORKING : 0;
        mover->noting = move->id != 0 && !(move->flags & KV_MOVE_DELETE);
        /* What changed in between was not noted. */
        if (mover->noting && move->id == mover->id_ended)
            mover->state = KV_MOVE_FAILED;
    }
    if (!chain->stopped && !chain->offline) {
        mover->wanted = *move;
        mover->endpoint = endpoint;
    } else {
        kv_mover_forget(mover);
    }
    pthread_mutex_unlock(&chain->mutex);
    kv_chain_spread_news(chain);
}

static void note(kv_mover *mover, const kv_update_key *key)
{
    kv_move_note *note = NULL;

    if (mover->overflown)
        return;
    if (mover->note_count < KV_NODE_MOVE_NOTES_MAX)
        note = malloc(sizeof(*note) + key->key_size);
    if (!note) {
        notes_drop(mover);
        mover->overflown = true;
        mover->state = KV_MOVE_FAILED;
        return;
    }
    note->key_size = key->key_size;
    memcpy(note->key, key->key, key->key_size);
    kv_list_append(&mover->notes, &note->link);
    mover->note_count++;
}

void kv_mover_note(kv_mover *mover, const kv_update *update)
{
    if (!mover->noting)
        return;
    for (uint32_t i = 0; i < update->count; i++) {
        const kv_update_key *key = &update->keys[i];

        if (update->statuses[i] == KV_OK &&
            kv_mover_has(mover->slots, mover->wanted.table_size, key->key, key->key_size))
            note(mover, key);
    }
}

void kv_mover_state(const kv_mover *mover, kv_chain_state *state)
{
    state->move = mover->wanted.id;
    state->move_state = mover->state;
    state->move_objects = mover->sent;
}

/* What is wanted now; true: the run is no longer that. */
static bool wanted_look(kv_mover *mover)
{
    bool other;

    pthread_mutex_lock(&mover->chain->mutex);
    other = mover->wanted.id != mover->run.id;
    if (!other)
        mover->run.flags = mover->wanted.flags;
    pthread_mutex_unlock(&mover->chain->mutex);
    return other || mover->loop->stopping;
}

/* Every object was sent once; `idle`: so was all that was noted and taken up. */
static void state_tell(kv_mover *mover, bool idle)
{
    bool deletes = mover->run.flags & KV_MOVE_DELETE;

    pthread_mutex_lock(&mover->chain->mutex);
    if (mover->wanted.id == mover->run.id && mover->state != KV_MOVE_FAILED) {
        if (mover->note_count <= KV_NODE_MOVE_NOTES_READY && mover->state == KV_MOVE_WORKING)
            mover->state = deletes ? KV_MOVE_DONE : KV_MOVE_READY;
        /* What is wanted last is looked at with the notes: both are behind the mutex. */
        if (idle && mover->note_count == 0 && mover->wanted.flags & KV_MOVE_LAST)
            mover->state = KV_MOVE_DONE;
    }
    pthread_mutex_unlock(&mover->chain->mutex);
}

void kv_mover_batch_ended(kv_mover *mover, uint32_t count, uint64_t size)
{
    uint64_t rate = atomic_load_explicit(&mover->chain->node->resync_rate, memory_order_relaxed);
    uint64_t now_ns = kv_clock_ns();
    bool unreadable = mover->batch->unreadable;

    if (mover->due_ns < now_ns)
        mover->due_ns = now_ns;
    if (rate > 0)
        mover->due_ns += (size + (uint64_t)count * KEY_WEIGHT) * NS_PER_S / rate;
    pthread_mutex_lock(&mover->chain->mutex);
    mover->sent += count;
    if (unreadable && mover->wanted.id == mover->run.id)
        mover->state = KV_MOVE_FAILED;
    pthread_mutex_unlock(&mover->chain->mutex);
}

/* ---- gathering ---- */

/* What has changed goes first. Its size is that of now; if it grows, it is noted again. */
static void notes_gather(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;
    uint32_t count_max = mover->walked ? KV_NODE_RESYNC_BATCH_COUNT : NOTES_BESIDE_WALK;
    uint64_t size = 0;

    while (batch->count < count_max && size < KV_NODE_RESYNC_BATCH_SIZE / 2) {
        kv_move_note *first = NULL;
        kv_list *link;
        kv_item_stat stat;
        uint32_t value_size = 0;

        pthread_mutex_lock(&mover->chain->mutex);
        link = kv_list_pop(&mover->notes);
        mover->note_count -= link != NULL;
        pthread_mutex_unlock(&mover->chain->mutex);
        if (!link)
            break;
        first = KV_CONTAINER(link, kv_move_note, link);
        if (kv_engine_peek(mover->chain->target->engine, first->key, first->key_size, &stat,
                           &value_size) < 0)
            value_size = 0;
        kv_move_batch_add(batch, first->key, first->key_size, value_size);
        size += value_size;
        free(first);
    }
}

static void page_take(kv_mover *mover)
{
    int64_t size = kv_engine_list_stored(mover->chain->target->engine, &mover->cursor,
                                         mover->page, KV_NODE_RESYNC_PAGE_SIZE);

    assert(size >= 0); /* a page holds any entry */
    mover->page_size = (uint32_t)size;
    mover->page_at = 0;
}

/* What the page holds of the slots. */
static void walk_gather(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;
    uint64_t size = 0;

    while (mover->page_at < mover->page_size && batch->count < KV_NODE_RESYNC_BATCH_COUNT) {
        const uint8_t *entry = mover->page + mover->page_at;
        const uint8_t *key = entry + KV_STORED_ENTRY_SIZE;
        uint32_t key_size = kv_endian_load_u16(entry);
        uint32_t value_size = kv_endian_load_u32(entry + ENTRY_AT_SIZE);

        if (batch->count > 0 && size + value_size > KV_NODE_RESYNC_BATCH_SIZE / 2)
            break;
        mover->page_at += KV_STORED_ENTRY_SIZE + key_size;
        if (!kv_mover_has(mover->run_slots, mover->run.table_size, key, key_size))
            continue;
        kv_move_batch_add(batch, key, key_size, value_size);
        size += value_size;
    }
}

/* ---- its run ---- */

static void pause_until(kv_mover *mover, uint64_t due_ns)
{
    kv_timer_set(mover->loop->reactor, &mover->timer, due_ns);
}

static void rest(kv_mover *mover)
{
    mover->run.id = 0;
    free(mover->page);
    free(mover->batch);
    mover->page = NULL;
    mover->batch = NULL;
    if (kv_timer_is_set(&mover->timer))
        kv_timer_stop(mover->loop->reactor, &mover->timer);
}

/* False: nothing is wanted, or there is no memory. */
static bool begin(kv_mover *mover)
{
    kv_peer_aim aim = {.pool = 1}; /* as what goes to the second place: clients have their own */

    pthread_mutex_lock(&mover->chain->mutex);
    mover->run = mover->wanted;
    memcpy(mover->run_slots, mover->slots, sizeof(mover->run_slots));
    aim.endpoint = mover->endpoint;
    aim.target = mover->wanted.target;
    pthread_mutex_unlock(&mover->chain->mutex);
    if (mover->run.id == 0)
        return false;
    mover->page = malloc(KV_NODE_RESYNC_PAGE_SIZE);
    mover->batch = calloc(1, sizeof(*mover->batch));
    if (!mover->peer)
        mover->peer = kv_peer_open(mover->chain, mover->loop, false, &mover->peer, mover);
    if (!mover->page || !mover->batch || !mover->peer) {
        rest(mover);
        pause_until(mover, kv_clock_ns() + KV_NODE_RESYNC_PAUSE_MS * NS_PER_MS);
        return false;
    }
    kv_peer_set_aim(mover->peer, &aim);
    mover->attempt = 1;
    mover->cursor = mover->page_size = mover->page_at = 0;
    mover->due_ns = 0;
    mover->walked = false;
    return true;
}

/* False: wait. */
static bool go_on(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;
    uint64_t now_ns = kv_clock_ns();

    if (batch->step != KV_MOVE_STEP_FREE)
        return false;
    if (now_ns < mover->due_ns) {
        pause_until(mover, mover->due_ns);
        return false;
    }
    batch->count = 0;
    batch->keys_size = 0;
    notes_gather(mover);
    if (mover->walked)
        state_tell(mover, batch->count == 0);
    walk_gather(mover);
    if (batch->count > 0) {
        kv_move_batch_begin(mover);
        return true;
    }
    if (mover->page_at < mover->page_size)
        return true;
    if (!mover->walked && mover->cursor != UINT64_MAX) {
        page_take(mover);
        return true;
    }
    mover->walked = true;
    state_tell(mover, true);
    pause_until(mover, now_ns + KV_NODE_MOVE_PAUSE_MS * NS_PER_MS);
    return false;
}

static void work(kv_mover *mover)
{
    if (wanted_look(mover)) {
        if (mover->batch && !kv_move_batch_drop(mover))
            return; /* its end comes back here */
        rest(mover);
        if (mover->loop->stopping || !begin(mover))
            return;
    }
    while (mover->run.id != 0 && go_on(mover))
        ;
}

void kv_mover_look(kv_mover *mover)
{
    if (mover->working)
        return; /* it looks itself, when it has done what it is at */
    mover->working = true;
    work(mover);
    mover->working = false;
}

void kv_mover_severed(kv_mover *mover)
{
    mover->attempt++;
}
