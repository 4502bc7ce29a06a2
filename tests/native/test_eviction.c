#include "engine/eviction.h"

#include <assert.h>
#include <string.h>

#include "bytes/random.h"
#include "eviction_user.h"

#define HANDLE_COUNT 512u
#define FREQUENCY_MAX 3

static void an_empty_policy_has_nothing_to_pick(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 0);
    assert(kv_eviction_count(user.eviction) == 0);
    assert(pick(&user) == 0);
    insert(&user, 1, 0);
    kv_eviction_remove(user.eviction, 1);
    assert(user.nodes[1].queue == 0);
    assert(pick(&user) == 0);
    user_close(&user);
}

static void entries_of_different_batches_leave_oldest_first(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 10);
    for (uint32_t handle = 1; handle <= 10; handle++)
        insert(&user, handle, 0);
    for (uint32_t handle = 1; handle <= 10; handle++)
        assert(pick(&user) == handle);
    assert(pick(&user) == 0);
    user_close(&user);
}

static void later_keys_of_a_batch_leave_first(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 30);
    for (uint32_t rank = 0; rank < 10; rank++)
        insert(&user, 1 + rank, rank);
    for (uint32_t rank = 10; rank-- > 0;) /* the order of the calls does not matter */
        insert(&user, 11 + rank, rank);
    insert(&user, 21, 0);

    for (uint32_t handle = 10; handle >= 1; handle--)
        assert(pick(&user) == handle);
    for (uint32_t handle = 20; handle >= 11; handle--)
        assert(pick(&user) == handle);
    assert(pick(&user) == 21);
    user_close(&user);
}

static void touched_batches_keep_their_order_too(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 30);
    for (uint32_t handle = 1; handle <= 10; handle++)
        insert(&user, handle, 0);
    for (uint32_t rank = 0; rank < 5; rank++)
        kv_eviction_touch(user.eviction, 1 + rank, rank);
    for (uint32_t rank = 0; rank < 5; rank++)
        kv_eviction_touch(user.eviction, 6 + rank, rank);

    for (uint32_t handle = 5; handle >= 1; handle--)
        assert(pick(&user) == handle);
    for (uint32_t handle = 10; handle >= 6; handle--)
        assert(pick(&user) == handle);
    user_close(&user);
}

static void a_scan_leaves_what_was_used_again(void)
{
    fixture user;
    uint32_t picked = 0;

    user_open(&user, HANDLE_COUNT, 100);
    for (uint32_t handle = 1; handle <= 50; handle++)
        insert(&user, handle, 0);
    for (uint32_t handle = 1; handle <= 50; handle++)
        kv_eviction_touch(user.eviction, handle, 0);
    for (uint32_t handle = 51; handle <= HANDLE_COUNT; handle++) {
        insert(&user, handle, 0);
        if (kv_eviction_count(user.eviction) > 100) {
            picked = pick(&user);
            assert(picked > 50);
        }
    }
    assert(picked != 0);
    user_close(&user);
}

static void an_evicted_key_that_returns_counts_as_used_again(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 10);
    insert(&user, 1, 0);
    insert(&user, 2, 0);
    assert(pick(&user) == 1);
    user.keys[3] = 1;
    insert(&user, 3, 0);
    insert(&user, 4, 0);

    assert(user.nodes[3].queue != user.nodes[2].queue);
    assert(user.nodes[4].queue == user.nodes[2].queue);
    assert(pick(&user) == 2);
    assert(pick(&user) == 4);
    assert(pick(&user) == 3);
    user_close(&user);
}

static void a_removed_key_that_returns_is_new(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 10);
    insert(&user, 1, 0);
    insert(&user, 2, 0);
    kv_eviction_remove(user.eviction, 1);
    user.keys[3] = 1;
    insert(&user, 3, 0);

    assert(user.nodes[3].queue == user.nodes[2].queue);
    user_close(&user);
}

static void an_entry_touched_often_is_spared_once(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 10);
    for (uint32_t handle = 1; handle <= 3; handle++)
        insert(&user, handle, 0);
    for (int i = 0; i < 1 + FREQUENCY_MAX; i++)
        kv_eviction_touch(user.eviction, 1, 0);
    kv_eviction_touch(user.eviction, 2, 0);
    kv_eviction_touch(user.eviction, 3, 0);

    assert(pick(&user) == 2);
    assert(pick(&user) == 3);
    assert(pick(&user) == 1);
    user_close(&user);
}

static void held_entries_stay(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 20);
    for (uint32_t handle = 1; handle <= 20; handle++) {
        insert(&user, handle, 0);
        if (handle % 2 == 0)
            kv_eviction_touch(user.eviction, handle, 0);
        user.held[handle] = handle % 3 == 0;
    }
    for (int i = 0; i < 14; i++)
        assert(pick(&user) % 3 != 0);
    assert(pick(&user) == 0);
    assert(kv_eviction_count(user.eviction) == 6);

    user.held[9] = false;
    assert(pick(&user) == 9);
    assert(pick(&user) == 0);
    user_close(&user);
}

static void a_pick_in_vain_ends_within_two_rounds(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, HANDLE_COUNT);
    for (uint32_t handle = 1; handle <= HANDLE_COUNT; handle++) {
        insert(&user, handle, 0);
        user.held[handle] = true;
    }
    for (uint32_t handle = 2; handle <= HANDLE_COUNT; handle += 2)
        for (uint32_t i = 0; i < handle % 7; i++)
            kv_eviction_touch(user.eviction, handle, 0);

    assert(pick(&user) == 0);
    assert(user.questions >= HANDLE_COUNT);
    assert(user.questions <= 2 * HANDLE_COUNT);
    memset(user.held, 0, (HANDLE_COUNT + 1) * sizeof(*user.held));
    assert(pick(&user) == 1);
    assert(pick(&user) == 3);
    assert(kv_eviction_count(user.eviction) == HANDLE_COUNT - 2);
    user_close(&user);
}

static void a_renamed_entry_keeps_its_place(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 10);
    for (uint32_t handle = 1; handle <= 3; handle++)
        insert(&user, handle, 0);
    kv_eviction_rename(user.eviction, 2, 12);
    kv_eviction_rename(user.eviction, 1, 11);
    kv_eviction_rename(user.eviction, 3, 13);

    assert(kv_eviction_count(user.eviction) == 3);
    assert(user.nodes[2].queue == 0);
    for (uint32_t handle = 11; handle <= 13; handle++)
        assert(pick(&user) == handle);
    user_close(&user);
}

static void a_rename_within_a_batch_does_not_break_its_order(void)
{
    fixture user;

    user_open(&user, HANDLE_COUNT, 10);
    insert(&user, 1, 0);
    insert(&user, 2, 1);
    kv_eviction_rename(user.eviction, 2, 12);
    insert(&user, 3, 2);

    assert(pick(&user) == 3);
    assert(pick(&user) == 12);
    assert(pick(&user) == 1);
    user_close(&user);
}

static void resizing_keeps_entries_and_a_small_change_keeps_ghosts(void)
{
    fixture user;
    uint64_t size;

    user_open(&user, HANDLE_COUNT, 1000);
    size = kv_eviction_memory_size(user.eviction);
    for (uint32_t handle = 1; handle <= 4; handle++)
        insert(&user, handle, 0);
    assert(pick(&user) == 1);
    assert(pick(&user) == 2);

    kv_eviction_resize(user.eviction, 900);
    assert(kv_eviction_memory_size(user.eviction) == size);
    insert(&user, 1, 0);
    assert(user.nodes[1].queue != user.nodes[3].queue);

    kv_eviction_resize(user.eviction, 100000);
    assert(kv_eviction_memory_size(user.eviction) >= 100000 * 8);
    insert(&user, 2, 0);
    assert(user.nodes[2].queue == user.nodes[3].queue);

    kv_eviction_resize(user.eviction, 0);
    assert(kv_eviction_memory_size(user.eviction) < size);
    assert(kv_eviction_count(user.eviction) == 4);
    assert(pick(&user) == 3);
    user_close(&user);
}

/* Every entry is on one queue, linked both ways. Fills `order`, oldest first; returns how many. */
static uint32_t walk(const fixture *user, uint8_t queue, uint32_t *order)
{
    uint32_t length = 0, members = 0, handle = 0;

    for (uint32_t i = 1; i <= HANDLE_COUNT; i++) {
        const kv_eviction_node *node = &user->nodes[i];

        members += node->queue == queue;
        if (node->queue == queue && node->previous == 0) {
            assert(handle == 0);
            handle = i;
        }
    }
    for (; handle != 0; handle = user->nodes[handle].next) {
        uint32_t newer = user->nodes[handle].next;

        assert(user->nodes[handle].queue == queue);
        assert(length < members);
        assert(newer == 0 || user->nodes[newer].previous == handle);
        order[length++] = handle;
    }
    assert(length == members);
    return length;
}

/* What a pick from a queue finds: the first that may go, once those to spare went to the end. */
static uint32_t naive_pick(const fixture *user, uint8_t queue)
{
    uint32_t order[HANDLE_COUNT];
    uint32_t length = walk(user, queue, order);

    for (uint32_t i = 0; i < length; i++)
        if (!user->held[order[i]] && user->nodes[order[i]].frequency < FREQUENCY_MAX)
            return order[i];
    for (uint32_t i = 0; i < length; i++)
        if (!user->held[order[i]])
            return order[i];
    return 0;
}

static uint32_t any_handle(const fixture *user, kv_random *random, bool listed)
{
    for (int i = 0; i < 64; i++) {
        uint32_t handle = 1 + (uint32_t)kv_random_below(random, HANDLE_COUNT);

        if ((user->nodes[handle].queue != 0) == listed)
            return handle;
    }
    return 0;
}

static void random_step(fixture *user, kv_random *random, uint64_t *count)
{
    uint32_t rank = (uint32_t)kv_random_below(random, 6);
    uint32_t listed = any_handle(user, random, true), unlisted = any_handle(user, random, false);
    uint64_t dice = kv_random_below(random, 16);

    if (dice < 5 && unlisted) {
        user->keys[unlisted] = kv_random_below(random, 2 * HANDLE_COUNT);
        user->held[unlisted] = kv_random_one_in(random, 4);
        insert(user, unlisted, rank);
        ++*count;
    } else if (dice < 10 && listed) {
        kv_eviction_touch(user->eviction, listed, rank);
    } else if (dice < 11 && listed) {
        kv_eviction_remove(user->eviction, listed);
        --*count;
    } else if (dice < 12 && listed && unlisted) {
        user->keys[unlisted] = user->keys[listed];
        user->held[unlisted] = user->held[listed];
        kv_eviction_rename(user->eviction, listed, unlisted);
    } else {
        uint32_t recent = naive_pick(user, 1), frequent = naive_pick(user, 2);
        uint32_t picked = pick(user);

        assert(picked == 0 ? recent == 0 && frequent == 0 : picked == recent || picked == frequent);
        *count -= picked != 0;
    }
}

static void every_entry_is_on_exactly_one_queue_after_any_operations(void)
{
    for (uint64_t seed = 0; seed < 8; seed++) {
        fixture user;
        kv_random random;
        uint64_t count = 0;
        uint32_t order[HANDLE_COUNT];

        kv_random_init(&random, seed);
        user_open(&user, HANDLE_COUNT, 1 + 100 * seed);
        for (int step = 0; step < 10000; step++) {
            random_step(&user, &random, &count);
            assert(kv_eviction_count(user.eviction) == count);
            if (step % 100 == 0)
                assert(walk(&user, 1, order) + walk(&user, 2, order) == count);
            if (step % 1000 == 0)
                kv_eviction_resize(user.eviction, kv_random_below(&random, 2000));
        }
        user_close(&user);
    }
}

int main(void)
{
    an_empty_policy_has_nothing_to_pick();
    entries_of_different_batches_leave_oldest_first();
    later_keys_of_a_batch_leave_first();
    touched_batches_keep_their_order_too();
    a_scan_leaves_what_was_used_again();
    an_evicted_key_that_returns_counts_as_used_again();
    a_removed_key_that_returns_is_new();
    an_entry_touched_often_is_spared_once();
    held_entries_stay();
    a_pick_in_vain_ends_within_two_rounds();
    a_renamed_entry_keeps_its_place();
    a_rename_within_a_batch_does_not_break_its_order();
    resizing_keeps_entries_and_a_small_change_keeps_ghosts();
    every_entry_is_on_exactly_one_queue_after_any_operations();
}
