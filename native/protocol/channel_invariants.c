/* What always holds of the table of update channels.
 *
 *  1. A client is on `silent` exactly if none of its updates runs, and has at least one channel.
 *  2. A channel is on its client's `idle` exactly if it does not run.
 *  3. Counts and bytes are those of the records, and within the limits.
 *  4. `silent` is in the order in which clients were heard last. */

#include "protocol/channel_state.h"

#include <assert.h>

static uint32_t list_count(const kv_list *list)
{
    uint32_t count = 0;

    for (const kv_list *at = list->next; at != list; at = at->next)
        count++;
    return count;
}

static void client_invariants(const channel_client *client, const kv_channels *all)
{
    assert(client->channel_count > 0);
    assert(client->channel_count <= all->options.channels_per_client_max);
    assert(client->running_count <= client->channel_count);
    assert(kv_list_empty(&client->place) == (client->running_count > 0));
    assert(list_count(&client->idle) == client->channel_count - client->running_count);
    assert(client->heard_ms <= all->now_ms);
}

static void silent_invariants(const kv_channels *all)
{
    uint64_t heard_ms = 0;

    for (const kv_list *at = all->silent.next; at != &all->silent; at = at->next) {
        const channel_client *client = KV_CONTAINER(at, channel_client, place);

        assert(client->running_count == 0);
        assert(client->heard_ms >= heard_ms);
        heard_ms = client->heard_ms;
    }
}

void kv_channels_invariants(const kv_channels *all)
{
    uint64_t memory = 0;
    uint32_t client_count = 0, channel_count = 0, running_count = 0;

    for (uint32_t i = 0; i <= all->clients_mask; i++)
        for (channel_client *client = all->clients[i]; client; client = client->next) {
            client_invariants(client, all);
            client_count++;
            channel_count += client->channel_count;
            running_count += client->running_count;
            memory += sizeof(*client);
        }
    for (uint32_t i = 0; i <= all->channels_mask; i++)
        for (kv_channel *channel = all->channels[i]; channel; channel = channel->next) {
            bool running = channel->state == CHANNEL_RUNNING;

            assert(channel->sequence > 0);
            assert(kv_list_empty(&channel->place) == running);
            assert((channel->many != NULL) == (channel->count > KV_CHANNEL_FEW_COUNT));
            channel_count--;
            running_count -= running;
            memory += sizeof(*channel) + kv_channel_many_size(channel->count);
        }
    assert(channel_count == 0 && running_count == 0);
    assert(client_count == all->client_count && client_count <= all->options.clients_max);
    assert(memory == all->memory && memory <= all->options.memory_max);
    silent_invariants(all);
}
