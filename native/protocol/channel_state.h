/* What the files of the table of update channels share: its records. */
#ifndef KV_CHANNEL_STATE_H
#define KV_CHANNEL_STATE_H

#include "bytes/list.h"
#include "protocol/channel.h"

#define KV_CHANNEL_FEW_COUNT 16u

typedef struct channel_client {
    kv_list place; /* on channels.silent, or on no list */
    kv_list idle;
    struct channel_client *next; /* in the table */
    uint64_t heard_ms;
    uint32_t channel_count;
    uint32_t running_count;
    uint8_t id[KV_CLIENT_ID_SIZE];
} channel_client;

typedef enum channel_state { CHANNEL_RUNNING, CHANNEL_DONE, CHANNEL_VOID } channel_state;

struct kv_channel {
    kv_list place; /* on client.idle, or on no list */
    struct kv_channel *next;
    channel_client *client;
    uint64_t sequence;
    uint8_t *many; /* statuses, where they are more than few */
    channel_state state;
    uint32_t number;
    uint32_t count;
    bool forgotten; /* while it ran: goes when it ends */
    uint8_t few[KV_CHANNEL_FEW_COUNT];
};

struct kv_channels {
    kv_channels_options options;
    kv_list silent;
    channel_client **clients;
    kv_channel **channels;
    uint32_t clients_mask;
    uint32_t channels_mask;
    uint32_t client_count;
    uint64_t memory;
    uint64_t now_ms; /* never goes back */
    bool forgetful;  /* a record was dropped: what is not known may have been */
};

/* Bytes of statuses beyond the record itself. */
static inline uint64_t kv_channel_many_size(uint32_t count)
{
    return count > KV_CHANNEL_FEW_COUNT ? count : 0;
}

#endif
