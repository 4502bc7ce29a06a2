/* The far end of the ideal TCP peer: slots of memory behind a socket, and no store.
 *
 *   serve SIZE          prints {"port": N} once it listens on loopback; ends when its input ends
 *
 * A request names the slots that values are sent from or received into. One thread a connection.
 * Guarantees: a request that names memory outside of SIZE ends the program.
 */

#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG = 64,
    READ_SIZE = 8192, /* takes in any request without its values */
};

_Static_assert((int)READ_SIZE > (int)REQUEST_SIZE_MAX, "a request fits");

static char *arena;
static size_t arena_size;

/* One connection. Bytes start..end of *input* are received and not yet used. */
struct connection {
    int socket;
    size_t start, end;
    char input[READ_SIZE];
    char reply[REPLY_SIZE_MAX];
};

/* Has *size* bytes in the input; false where the connection ended. */
static int have(struct connection *connection, size_t size)
{
    while (connection->end - connection->start < size) {
        size_t left = connection->end - connection->start;
        if (connection->start > 0)
            memmove(connection->input, connection->input + connection->start, left);
        connection->start = 0;
        connection->end = left;
        ssize_t received = recv(connection->socket, connection->input + left, READ_SIZE - left, 0);
        if (received <= 0)
            return 0;
        connection->end += (size_t)received;
    }
    return 1;
}

/* Writes where the values of a request lie; the arena ends the program's trust. */
static void locate(const struct wire_header *header, const char *columns, struct iovec *vectors)
{
    for (unsigned i = 0; i < header->count; i++) {
        struct wire_column column;
        memcpy(&column, columns + i * sizeof column, sizeof column);
        if (column.slot >= arena_size / header->value_size) {
            errno = EINVAL;
            fail("slot");
        }
        vectors[i].iov_base = arena + column.slot * header->value_size;
        vectors[i].iov_len = header->value_size;
    }
}

/* Receives the values of a set: first those bytes that came with the request. */
static void receive_values(struct connection *connection, struct iovec *vectors, unsigned count)
{
    unsigned i = 0;
    while (i < count && connection->start < connection->end) {
        size_t left = connection->end - connection->start;
        size_t size = left < vectors[i].iov_len ? left : vectors[i].iov_len;
        memcpy(vectors[i].iov_base, connection->input + connection->start, size);
        connection->start += size;
        vectors[i].iov_base = (char *)vectors[i].iov_base + size;
        vectors[i].iov_len -= size;
        i += vectors[i].iov_len == 0;
    }
    if (i < count && wire_receive(connection->socket, vectors + i, count - i))
        fail("a set ended early");
}

/* Answers one request; false where there is none. */
static int answer(struct connection *connection)
{
    struct iovec vectors[BATCH_COUNT_MAX + 1];
    struct wire_header header;
    if (!have(connection, sizeof header))
        return 0;
    memcpy(&header, connection->input + connection->start, sizeof header);
    if (header.count == 0 || header.count > BATCH_COUNT_MAX || header.value_size == 0) {
        errno = EINVAL;
        fail("request");
    }
    if (!have(connection, request_size(header.count)))
        return 0;
    const char *request = connection->input + connection->start;
    locate(&header, request + sizeof header + COLUMNS_SIZE, vectors + 1);
    connection->start += request_size(header.count);
    memcpy(connection->reply, &header, sizeof header);
    vectors[0].iov_base = connection->reply;
    vectors[0].iov_len = reply_size(header.count);
    if (header.kind == WIRE_SET)
        receive_values(connection, vectors + 1, header.count);
    wire_send(connection->socket, vectors, header.kind == WIRE_SET ? 1 : header.count + 1);
    return 1;
}

static void *serve(void *argument)
{
    struct connection *connection = argument;
    while (answer(connection))
        continue;
    close(connection->socket);
    free(connection);
    return NULL;
}

static void *accept_all(void *argument)
{
    int listener = *(int *)argument;
    for (;;) {
        int found = accept(listener, NULL, NULL);
        struct connection *connection = calloc(1, sizeof *connection);
        pthread_t thread;
        if (found < 0 || connection == NULL)
            fail("accept");
        connection->socket = found;
        wire_tune(found);
        if (pthread_create(&thread, NULL, serve, connection) || pthread_detach(thread))
            fail("pthread_create");
    }
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t size = sizeof address;
    pthread_t thread;
    char byte;
    if (count != 2)
        fail("serve SIZE");
    arena_size = strtoull(arguments[1], NULL, 10);
    arena = wire_memory(arena_size);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address)
        || listen(listener, BACKLOG) || getsockname(listener, (struct sockaddr *)&address, &size))
        fail("listen");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    if (pthread_create(&thread, NULL, accept_all, &listener))
        fail("pthread_create");
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    return 0;
}
