/* What the owner of a node says of slots that move: each move goes to the mover of its target. */

#include "node/chain.h"

#include "client/addresses.h"
#include "node/mover.h"
#include "protocol/placement.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef struct move_list {
    const kv_move *moves;
    uint32_t count;
    const uint32_t *slots;
    uint32_t slot_count;
    const char *const *addresses;
    uint32_t address_count;
} move_list;

static bool slots_fit(const move_list *list, const kv_move *move)
{
    if (move->table_size == 0 || move->table_size > KV_SLOT_COUNT_MAX ||
        (move->table_size & (move->table_size - 1)) != 0)
        return false;
    if (move->slot_count > list->slot_count ||
        move->slot_first > list->slot_count - move->slot_count)
        return false;
    for (uint32_t i = 0; i < move->slot_count; i++)
        if (list->slots[move->slot_first + i] >= move->table_size)
            return false;
    return true;
}

static const char *wrong_about(kv_node *node, const move_list *list, const kv_move *move)
{
    if (!kv_node_target(node, move->source))
        return "is not on this node";
    if (move->id == 0 || (move->flags & ~(KV_MOVE_DELETE | KV_MOVE_LAST)) != 0)
        return "has a move without an id, or with unknown flags";
    if (move->chain_version == 0 || move->chain_version > KV_CHAIN_VERSION_LIMIT)
        return "has a move to a chain version beyond the limit";
    if (move->node >= list->address_count)
        return "has a move to a node without an address";
    return slots_fit(list, move) ? NULL : "has a move of slots that there are not";
}

static const kv_move *move_find(const move_list *list, uint32_t target)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->moves[i].source == target)
            return &list->moves[i];
    return NULL;
}

/* Locked. -ENOMEM with `message`. */
static int give_all(kv_node *node, const move_list *list, char *message)
{
    const kv_move none = {0};

    for (uint32_t i = 0; i < node->target_count; i++) {
        kv_target *target = &node->targets[i];
        kv_chain *chain = atomic_load_explicit(&target->chain, memory_order_relaxed);
        const kv_move *move = move_find(list, target->number);
        uint32_t endpoint = KV_CHAIN_NO_ENDPOINT;
        int error = 0;

        if (!chain)
            continue; /* it was never told of chains, so nothing of it can move */
        if (move)
            error = kv_addresses_add(node->addresses, list->addresses[move->node], &endpoint);
        if (error < 0) {
            snprintf(message, KV_MESSAGE_SIZE, "moves cannot be set: %s", strerror(-error));
            return error;
        }
        kv_mover_give(chain->mover, move ? move : &none,
                      move ? list->slots + move->slot_first : NULL, endpoint);
    }
    return 0;
}

int kv_node_set_moves(kv_node *node, const kv_move *moves, uint32_t move_count,
                      const uint32_t *slots, uint32_t slot_count, const char *const *addresses,
                      uint32_t address_count, char *message)
{
    move_list list = {moves, move_count, slots, slot_count, addresses, address_count};
    int error;

    for (uint32_t i = 0; i < move_count; i++) {
        const char *wrong = wrong_about(node, &list, &moves[i]);

        if (wrong) {
            snprintf(message, KV_MESSAGE_SIZE, "target %u %s", moves[i].source, wrong);
            return -EINVAL;
        }
    }
    pthread_mutex_lock(&node->chains_mutex);
    error = give_all(node, &list, message);
    pthread_mutex_unlock(&node->chains_mutex);
    return error;
}
