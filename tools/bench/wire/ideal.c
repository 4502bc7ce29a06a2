/* The ideal TCP peer's requests: one sendmsg and, where nothing is lost, one recvmsg a batch. */

#include "stream.h"

#include <errno.h>
#include <string.h>

/* Writes a request without its values, and returns it as a vector. */
static struct iovec request(char *buffer, enum wire_kind kind, const struct batch *batch)
{
    struct wire_header header = {
        .kind = kind,
        .count = batch->count,
        .value_size = batch->value_size,
    };
    char *at = buffer;
    memcpy(at, &header, sizeof header);
    at += sizeof header;
    memset(at, 0, COLUMNS_SIZE);
    at += COLUMNS_SIZE;
    for (unsigned i = 0; i < batch->count; i++) {
        struct wire_column column = {.slot = batch->slots[i]};
        memcpy(at, &column, sizeof column);
        at += sizeof column;
    }
    memcpy(at, batch->keys, (size_t)batch->count * KEY_SIZE);
    return (struct iovec){.iov_base = buffer, .iov_len = request_size(batch->count)};
}

static void send_get(int socket, const struct batch *batch)
{
    char buffer[REQUEST_SIZE_MAX];
    struct iovec vector = request(buffer, WIRE_GET, batch);
    wire_send(socket, &vector, 1);
}

/* Refuses a reply to anything else. */
static void check(const char *reply, enum wire_kind kind, const struct batch *batch)
{
    struct wire_header header;
    memcpy(&header, reply, sizeof header);
    if (header.kind != kind || header.count != batch->count) {
        errno = EPROTO;
        fail("reply");
    }
}

static void receive_get(int socket, const struct batch *batch, char *target)
{
    char reply[REPLY_SIZE_MAX];
    struct iovec vectors[2] = {
        {.iov_base = reply, .iov_len = reply_size(batch->count)},
        {.iov_base = target, .iov_len = batch->count * batch->value_size},
    };
    if (wire_receive(socket, vectors, 2))
        fail("the connection ended");
    check(reply, WIRE_GET, batch);
}

static void set(int socket, const struct batch *batch, char *const *sources)
{
    char buffer[REQUEST_SIZE_MAX];
    char reply[REPLY_SIZE_MAX];
    struct iovec vectors[BATCH_COUNT_MAX + 1];
    vectors[0] = request(buffer, WIRE_SET, batch);
    for (unsigned i = 0; i < batch->count; i++)
        vectors[i + 1] = (struct iovec){.iov_base = sources[i], .iov_len = batch->value_size};
    wire_send(socket, vectors, batch->count + 1);
    struct iovec vector = {.iov_base = reply, .iov_len = reply_size(batch->count)};
    if (wire_receive(socket, &vector, 1))
        fail("the connection ended");
    check(reply, WIRE_SET, batch);
}

const struct protocol ideal_protocol = {"ideal", send_get, receive_get, set};
