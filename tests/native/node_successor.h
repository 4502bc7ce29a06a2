/* The next target of a chain as a test plays it: one blocking socket, which takes forwards and
 * answers them as the test says. It waits by poll, with a deadline that only a hanging node
 * reaches. */
#ifndef NODE_SUCCESSOR_H
#define NODE_SUCCESSOR_H

#include "node_chains.h"
#include "protocol/forward.h"

typedef struct chain_successor {
    int listener;
    int descriptor; /* -1: none */
    int port;
} chain_successor;

/* A forward as it came. */
typedef struct chain_forward {
    node_message message;
    kv_wire_forward wire;
    uint32_t place;
} chain_forward;

static inline chain_successor successor_open(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    chain_successor successor = {.descriptor = -1};

    successor.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(successor.listener >= 0);
    assert(bind(successor.listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    assert(listen(successor.listener, 16) == 0);
    assert(getsockname(successor.listener, (struct sockaddr *)&address, &size) == 0);
    successor.port = ntohs(address.sin_port);
    return successor;
}

static inline void successor_hang_up(chain_successor *successor)
{
    close(successor->descriptor);
    successor->descriptor = -1;
}

static inline void successor_close(chain_successor *successor)
{
    if (successor->descriptor >= 0)
        successor_hang_up(successor);
    close(successor->listener);
}

/* The next connection, up to the end of its hello. */
static inline void successor_accept(chain_successor *successor)
{
    static const uint8_t nonce[KV_NONCE_SIZE] = {4, 5, 6};
    const kv_hello_grant grant = {.rights = KV_RIGHT_PEER,
                                  .requests_max = 16,
                                  .count_max = KV_MESSAGE_COUNT_MAX,
                                  .columns_size_max = KV_MESSAGE_COLUMNS_SIZE_MAX,
                                  .values_size_max = KV_MESSAGE_VALUES_SIZE_MAX,
                                  .stall_timeout_ms = 1000,
                                  .node = 9,
                                  .run = 9};
    struct pollfd waited = {.fd = successor->listener, .events = POLLIN};
    uint8_t out[KV_HELLO_MESSAGE_SIZE_MAX];
    kv_hello *hello = calloc(1, sizeof(*hello));
    node_client socket;

    assert(hello && poll(&waited, 1, WORLD_WAIT_MS) == 1);
    successor->descriptor = accept(successor->listener, NULL, NULL);
    assert(successor->descriptor >= 0);
    socket.descriptor = successor->descriptor;
    kv_hello_begin_node(hello, &grant, NULL, 0, nonce);
    while (hello->state < KV_HELLO_DONE) {
        node_message message;
        int size;

        assert(client_receive(&socket, &message));
        size = kv_hello_step(hello, &message.head, message.bytes, out);
        free(message.bytes);
        assert(size > 0 && client_write(&socket, out, (size_t)size));
    }
    assert(hello->state == KV_HELLO_DONE);
    free(hello);
}

/* The next forward; the caller frees it. */
static inline chain_forward successor_take(chain_successor *successor)
{
    node_client socket = {.descriptor = successor->descriptor};
    chain_forward forward;
    kv_message_head head;

    assert(client_receive(&socket, &forward.message));
    head = forward.message.head;
    assert(head.kind == KV_MESSAGE_FORWARD);
    forward.place = head.flags;
    head.flags = 0;
    assert(kv_forward_decode(&head, message_columns(&forward.message), &forward.wire, NULL) == 0);
    return forward;
}

static inline void forward_free(chain_forward *forward)
{
    free(forward->message.bytes);
}

/* `status` of all of it, or KV_OK and `item_status` of each. */
static inline void successor_answer(chain_successor *successor, const chain_forward *forward,
                                    kv_status status, kv_status item_status, uint64_t space_free)
{
    node_client socket = {.descriptor = successor->descriptor};
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE + 64 + KV_MESSAGE_COUNT_MAX];
    uint8_t statuses[KV_MESSAGE_COUNT_MAX];
    kv_wire_forwarded wire = {.status = status,
                              .count = status == KV_OK ? forward->wire.count : 0,
                              .chain_version = forward->wire.chain_version,
                              .space_free = space_free,
                              .statuses = statuses};
    kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX,
                            .kind = KV_MESSAGE_FORWARDED,
                            .count = wire.count,
                            .request = forward->message.head.request};

    memset(statuses, (int)item_status, sizeof(statuses));
    head.columns_size = kv_forwarded_encode(&wire, bytes + KV_MESSAGE_HEAD_SIZE);
    kv_message_encode(&head, bytes);
    assert(client_write(&socket, bytes, KV_MESSAGE_HEAD_SIZE + head.columns_size));
}

static inline void successor_agree(chain_successor *successor, chain_forward *forward)
{
    successor_answer(successor, forward, KV_OK, KV_OK, 1ull << 40);
    forward_free(forward);
}

#endif
