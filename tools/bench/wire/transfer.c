/* Whole transfers over a socket, in as few calls of the kernel as it takes. */

#include "wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

_Noreturn void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "refused");
    exit(1);
}

char *wire_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap");
    madvise(memory, size, MADV_HUGEPAGE);
    memset(memory, 1, size);
    return memory;
}

void wire_tune(int socket)
{
    int one = 1;
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    if (setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)
        || setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit))
        fail("setsockopt");
}

/* Takes the first *size* bytes off the vectors. */
static void advance(struct msghdr *message, size_t size)
{
    while (message->msg_iovlen > 0 && size >= message->msg_iov->iov_len) {
        size -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (size > 0) {
        message->msg_iov->iov_base = (char *)message->msg_iov->iov_base + size;
        message->msg_iov->iov_len -= size;
    }
}

void wire_send(int socket, struct iovec *vectors, unsigned count)
{
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (sent < 0)
            fail("sendmsg");
        advance(&message, (size_t)sent);
    }
}

int wire_receive(int socket, struct iovec *vectors, unsigned count)
{
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
    size_t before = message.msg_iovlen;
    size_t first = vectors[0].iov_len;
    while (message.msg_iovlen > 0) {
        ssize_t received = recvmsg(socket, &message, MSG_WAITALL);
        if (received < 0)
            fail("recvmsg");
        if (received == 0) {
            if (message.msg_iovlen == before && message.msg_iov->iov_len == first)
                return -1;
            errno = ECONNRESET;
            fail("recvmsg");
        }
        advance(&message, (size_t)received);
    }
    return 0;
}
