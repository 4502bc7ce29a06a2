/* Control requests: one, to one target of one node, on the calling thread. It goes by a lane like
 * any batch; what differs is that a node which cannot be connected to is reported at once. */

#include "client/client_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int64_t kv_client_control(kv_client *client, const char *node, uint32_t target, uint32_t kind,
                          const void *body, uint32_t body_size, void *reply, uint64_t reply_size,
                          uint64_t timeout_ms, char *message)
{
    kv_control control = {.target = target,
                          .kind = kind,
                          .body = body,
                          .body_size = body_size,
                          .reply = reply,
                          .reply_size = reply_size,
                          .message = message};
    kv_call *call;
    int error;

    message[0] = '\0';
    if (body_size > KV_MESSAGE_COLUMNS_SIZE_MAX - KV_MESSAGE_CRC_SIZE || kind > UINT16_MAX)
        return -EINVAL;
    error = kv_addresses_add(client->addresses, node, &control.endpoint);
    if (error < 0) {
        snprintf(message, KV_MESSAGE_SIZE, "\"%.300s\" is no host:port", node);
        return error;
    }
    call = kv_call_open(client, KV_CALL_CONTROL, NULL, timeout_ms);
    if (!call)
        return -ENOMEM;
    call->control = &control;
    error = kv_client_call_run(client, call);
    kv_call_close(call);
    return error < 0 ? error : control.result;
}
