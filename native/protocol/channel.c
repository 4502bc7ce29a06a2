/* The table of update channels.
 *
 *   clients by id ──► client ──► its channels that are idle, longest idle first
 *   channels by client and number ──► channel: the last sequence, and what became of it
 *   silent: the clients of which no update runs, longest silent first
 *
 *   (none) ─repeated, unknown─► VOID ──┐
 *      └────────── begin ──► RUNNING ◄─┴─ begin a later sequence ─ DONE
 *                               ├──────────── end ───────────────► ▲
 *                               └─ cancel ─► VOID, of the sequence before it
 *
 * VOID is the record of an update whose outcome nobody knows: without it, the first sending of that
 * update, delayed on another connection, would be applied after its client had been told so. */

#include "protocol/channel_state.h"

#include "bytes/hash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SIZE_MAX (1u << 20)

_Static_assert(sizeof(channel_client) + sizeof(kv_channel) + KV_MESSAGE_COUNT_MAX <=
                   KV_CHANNELS_MEMORY_MIN,
               "the smallest memory holds one update of any count");

static uint32_t table_size(uint64_t records_max)
{
    uint32_t size = 1;

    while (size < records_max && size < TABLE_SIZE_MAX)
        size *= 2;
    return size;
}

int kv_channels_open(const kv_channels_options *options, kv_channels **channels)
{
    uint64_t channels_max = options->memory_max / sizeof(kv_channel);
    kv_channels *all;

    if (options->clients_max == 0 || options->channels_per_client_max == 0 ||
        options->memory_max < KV_CHANNELS_MEMORY_MIN)
        return -EINVAL;
    if (channels_max > (uint64_t)options->clients_max * options->channels_per_client_max)
        channels_max = (uint64_t)options->clients_max * options->channels_per_client_max;
    all = calloc(1, sizeof(*all));
    if (!all)
        return -ENOMEM;
    all->options = *options;
    all->clients_mask = table_size(options->clients_max) - 1;
    all->channels_mask = table_size(channels_max) - 1;
    all->clients = calloc((size_t)all->clients_mask + 1, sizeof(all->clients[0]));
    all->channels = calloc((size_t)all->channels_mask + 1, sizeof(all->channels[0]));
    kv_list_init(&all->silent);
    if (!all->clients || !all->channels) {
        kv_channels_close(all);
        return -ENOMEM;
    }
    *channels = all;
    return 0;
}

/* Where the table points to the client, or would. */
static channel_client **client_find(kv_channels *all, const uint8_t id[KV_CLIENT_ID_SIZE])
{
    uint64_t hash = kv_hash(all->options.seed, id, KV_CLIENT_ID_SIZE);
    channel_client **at = &all->clients[hash & all->clients_mask];

    while (*at && memcmp((*at)->id, id, KV_CLIENT_ID_SIZE) != 0)
        at = &(*at)->next;
    return at;
}

static kv_channel **channel_find(kv_channels *all, const uint8_t id[KV_CLIENT_ID_SIZE],
                                 uint32_t number)
{
    uint64_t hash = kv_hash(all->options.seed + number, id, KV_CLIENT_ID_SIZE);
    kv_channel **at = &all->channels[hash & all->channels_mask];

    while (*at && ((*at)->number != number ||
                   memcmp((*at)->client->id, id, KV_CLIENT_ID_SIZE) != 0))
        at = &(*at)->next;
    return at;
}

static uint8_t *channel_statuses(kv_channel *channel)
{
    return channel->count > KV_CHANNEL_FEW_COUNT ? channel->many : channel->few;
}

static void channel_drop(kv_channels *all, kv_channel *channel)
{
    kv_channel **at = channel_find(all, channel->client->id, channel->number);

    assert(*at == channel);
    assert(channel->state != CHANNEL_RUNNING);
    all->forgetful |= channel->sequence > 0;
    *at = channel->next;
    kv_list_remove(&channel->place);
    channel->client->channel_count--;
    all->memory -= sizeof(*channel) + kv_channel_many_size(channel->count);
    free(channel->many);
    free(channel);
}

static kv_channel *client_idle(channel_client *client)
{
    return kv_list_empty(&client->idle) ? NULL
                                        : KV_CONTAINER(client->idle.next, kv_channel, place);
}

static void client_drop(kv_channels *all, channel_client *client)
{
    channel_client **at = client_find(all, client->id);
    kv_channel *channel;

    assert(*at == client);
    assert(client->running_count == 0);
    while ((channel = client_idle(client)) != NULL)
        channel_drop(all, channel);
    assert(client->channel_count == 0);
    *at = client->next;
    kv_list_remove(&client->place);
    all->client_count--;
    all->memory -= sizeof(*client);
    free(client);
}

/* The client is heard of: off `silent`, so that making room for it does not evict it. */
static void client_touch(kv_channels *all, channel_client *client)
{
    kv_list_remove(&client->place);
    client->heard_ms = all->now_ms;
}

/* The counterpart of client_touch, at the end of a call. */
static void client_settle(kv_channels *all, channel_client *client)
{
    assert(kv_list_empty(&client->place));
    assert(client->running_count <= client->channel_count);
    if (client->channel_count == 0)
        client_drop(all, client);
    else if (client->running_count == 0)
        kv_list_append(&all->silent, &client->place);
}

/* Evict until so many bytes and clients more are within the limits: silent clients first, then what
 * the client itself has idle, except `kept`. */
static bool room_make(kv_channels *all, channel_client *client, const kv_channel *kept,
                      uint64_t size)
{
    const kv_channels_options *limit = &all->options;

    while (all->memory + size > limit->memory_max ||
           (!client && all->client_count == limit->clients_max)) {
        kv_list *victim = kv_list_pop(&all->silent);
        kv_channel *idle = client ? client_idle(client) : NULL;

        if (idle && idle == kept)
            idle = idle->place.next == &client->idle
                       ? NULL
                       : KV_CONTAINER(idle->place.next, kv_channel, place);
        if (victim)
            client_drop(all, KV_CONTAINER(victim, channel_client, place));
        else if (idle)
            channel_drop(all, idle);
        else
            return false;
    }
    return true;
}

static channel_client *client_add(kv_channels *all, const uint8_t id[KV_CLIENT_ID_SIZE])
{
    channel_client *client = calloc(1, sizeof(*client));

    if (!client)
        return NULL;
    memcpy(client->id, id, KV_CLIENT_ID_SIZE);
    kv_list_init(&client->place);
    kv_list_init(&client->idle);
    *client_find(all, id) = client;
    all->client_count++;
    all->memory += sizeof(*client);
    client->heard_ms = all->now_ms;
    return client;
}

/* An idle record without statuses; NULL when there is no room. */
static kv_channel *channel_add(kv_channels *all, channel_client *client, uint32_t number)
{
    kv_channel *channel;

    while (client->channel_count >= all->options.channels_per_client_max) {
        if (!client_idle(client))
            return NULL;
        channel_drop(all, client_idle(client));
    }
    if (!room_make(all, client, NULL, sizeof(*channel)))
        return NULL;
    channel = calloc(1, sizeof(*channel));
    if (!channel)
        return NULL;
    channel->client = client;
    channel->number = number;
    channel->state = CHANNEL_VOID;
    kv_list_init(&channel->place);
    kv_list_append(&client->idle, &channel->place);
    *channel_find(all, client->id, number) = channel;
    client->channel_count++;
    all->memory += sizeof(*channel);
    return channel;
}

/* Room for so many statuses is taken when an update begins, so that its end cannot fail. What was
 * recorded stays until there is room. */
static bool channel_resize(kv_channels *all, kv_channel *channel, uint32_t count)
{
    uint64_t old_size = kv_channel_many_size(channel->count), size = kv_channel_many_size(count);
    uint8_t *many = NULL;

    if (size > old_size && !room_make(all, channel->client, channel, size - old_size))
        return false;
    if (size != old_size) {
        many = size > 0 ? malloc(size) : NULL;
        if (size > 0 && !many)
            return false;
        free(channel->many);
        channel->many = many;
        all->memory += size;
        all->memory -= old_size;
    }
    channel->count = count;
    return true;
}

static bool channel_start(kv_channels *all, kv_channel *channel, const kv_channel_update *update)
{
    assert(channel->state != CHANNEL_RUNNING);
    assert(update->sequence > channel->sequence || update->forwarded);
    if (!channel_resize(all, channel, update->count))
        return false;
    channel->sequence = update->sequence;
    channel->state = CHANNEL_RUNNING;
    kv_list_remove(&channel->place);
    channel->client->running_count++;
    return true;
}

/* What the record of a channel says about an update. BEGUN: it may begin. */
static kv_channel_verdict channel_judge(kv_channel *channel, const kv_channel_update *update)
{
    if (update->sequence < channel->sequence)
        return KV_CHANNEL_STALE;
    if (update->sequence > channel->sequence)
        return channel->state == CHANNEL_RUNNING ? KV_CHANNEL_RUNNING : KV_CHANNEL_BEGUN;
    if (channel->state == CHANNEL_VOID)
        return update->forwarded ? KV_CHANNEL_BEGUN : KV_CHANNEL_UNKNOWN;
    if (update->count != channel->count)
        return KV_CHANNEL_STALE;
    if (channel->state == CHANNEL_RUNNING)
        return KV_CHANNEL_RUNNING;
    return update->forwarded ? KV_CHANNEL_BEGUN : KV_CHANNEL_KNOWN;
}

/* The first that is heard of a channel, or the first that is remembered. */
static kv_channel_verdict channel_meet(kv_channels *all, channel_client *client,
                                       const kv_channel_update *update, kv_channel **channel)
{
    kv_channel *added = channel_add(all, client, update->channel);

    if (!added)
        return KV_CHANNEL_FULL;
    if (update->repeated && all->forgetful) {
        added->sequence = update->sequence;
        return KV_CHANNEL_UNKNOWN;
    }
    if (!channel_start(all, added, update)) {
        channel_drop(all, added);
        return KV_CHANNEL_FULL;
    }
    *channel = added;
    return KV_CHANNEL_BEGUN;
}

/* It is not in anybody's power to refuse this update for want of a record: what is known of its
 * channel is worth nothing from then on. */
static void channel_miss(kv_channels *all, kv_channel *known, const kv_channel_update *update)
{
    all->forgetful = true;
    if (known && known->state == CHANNEL_RUNNING) {
        known->forgotten = true;
    } else if (known) {
        known->sequence = update->sequence;
        known->state = CHANNEL_VOID;
    }
}

kv_channel_verdict kv_channel_begin(kv_channels *all, const kv_channel_update *update,
                                    uint64_t now_ms, kv_channel **channel,
                                    const uint8_t **statuses)
{
    channel_client *client = *client_find(all, update->client);
    kv_channel *known = client ? *channel_find(all, update->client, update->channel) : NULL;
    kv_channel_verdict verdict;

    assert(update->sequence > 0);
    assert(update->count > 0 && update->count <= KV_MESSAGE_COUNT_MAX);
    if (now_ms > all->now_ms)
        all->now_ms = now_ms;
    if (!client && room_make(all, NULL, NULL, sizeof(*client) + sizeof(**channel)))
        client = client_add(all, update->client);
    if (!client) {
        all->forgetful |= update->forwarded;
        return KV_CHANNEL_FULL;
    }

    client_touch(all, client);
    if (known) {
        verdict = channel_judge(known, update);
        if (verdict == KV_CHANNEL_BEGUN && !channel_start(all, known, update))
            verdict = KV_CHANNEL_FULL;
        if (verdict == KV_CHANNEL_KNOWN)
            *statuses = channel_statuses(known);
        if (verdict == KV_CHANNEL_BEGUN)
            *channel = known;
    } else {
        verdict = channel_meet(all, client, update, channel);
    }
    if (update->forwarded && (verdict == KV_CHANNEL_FULL || verdict == KV_CHANNEL_RUNNING))
        channel_miss(all, known, update);
    client_settle(all, client);
    return verdict;
}

static void channel_stop(kv_channels *all, kv_channel *channel, channel_state state,
                         uint64_t now_ms)
{
    channel_client *client = channel->client;

    assert(channel->state == CHANNEL_RUNNING);
    assert(client->running_count > 0);
    if (now_ms > all->now_ms)
        all->now_ms = now_ms;
    channel->state = state;
    kv_list_append(&client->idle, &channel->place);
    client->running_count--;
    client_touch(all, client);
    if (channel->forgotten || channel->sequence == 0)
        channel_drop(all, channel);
    client_settle(all, client);
}

void kv_channel_end(kv_channels *all, kv_channel *channel, const uint8_t *statuses, uint64_t now_ms)
{
    memcpy(channel_statuses(channel), statuses, channel->count);
    channel_stop(all, channel, CHANNEL_DONE, now_ms);
}

void kv_channel_cancel(kv_channels *all, kv_channel *channel, uint64_t now_ms)
{
    channel->sequence--;
    channel_stop(all, channel, CHANNEL_VOID, now_ms);
}

void kv_channels_forget(kv_channels *all)
{
    kv_list *silent;

    all->forgetful = true;
    while ((silent = kv_list_pop(&all->silent)))
        client_drop(all, KV_CONTAINER(silent, channel_client, place));
    for (uint32_t i = 0; i <= all->channels_mask; i++)
        for (kv_channel *channel = all->channels[i], *next; channel; channel = next) {
            next = channel->next;
            channel->forgotten = true;
            if (channel->state != CHANNEL_RUNNING)
                channel_drop(all, channel);
        }
}

void kv_channels_close(kv_channels *all)
{
    for (uint32_t i = 0; all->channels && i <= all->channels_mask; i++)
        for (kv_channel *channel = all->channels[i], *next; channel; channel = next) {
            next = channel->next;
            free(channel->many);
            free(channel);
        }
    for (uint32_t i = 0; all->clients && i <= all->clients_mask; i++)
        for (channel_client *client = all->clients[i], *next; client; client = next) {
            next = client->next;
            free(client);
        }
    free(all->channels);
    free(all->clients);
    free(all);
}

uint64_t kv_channels_memory(const kv_channels *all)
{
    return all->memory;
}
