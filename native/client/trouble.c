/* See trouble.h. */

#include "client/trouble.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORD_BITS 64u

_Static_assert(KV_CLIENT_ENDPOINTS_MAX % WORD_BITS == 0, "endpoints fill words of bits");

int kv_trouble_open(kv_trouble *trouble)
{
    *trouble = (kv_trouble){.descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (trouble->descriptor < 0)
        return -errno;
    pthread_mutex_init(&trouble->mutex, NULL);
    return 0;
}

void kv_trouble_close(kv_trouble *trouble)
{
    close(trouble->descriptor);
    pthread_mutex_destroy(&trouble->mutex);
}

void kv_trouble_abandon(kv_trouble *trouble)
{
    close(trouble->descriptor);
    trouble->descriptor = -1;
}

/* Locked. An eventfd that is readable need not be told again. */
static void tell(kv_trouble *trouble)
{
    const uint64_t one = 1;

    if (!trouble->told)
        trouble->told = write(trouble->descriptor, &one, sizeof(one)) == sizeof(one);
}

void kv_trouble_unreachable(kv_trouble *trouble, uint32_t endpoint)
{
    uint64_t bit = UINT64_C(1) << (endpoint % WORD_BITS);
    uint64_t *word = &trouble->unreachable[endpoint / WORD_BITS];

    assert(endpoint < KV_CLIENT_ENDPOINTS_MAX);
    pthread_mutex_lock(&trouble->mutex);
    if ((*word & bit) == 0) {
        *word |= bit;
        trouble->unreachable_count++;
        tell(trouble);
    }
    pthread_mutex_unlock(&trouble->mutex);
}

void kv_trouble_refused(kv_trouble *trouble)
{
    pthread_mutex_lock(&trouble->mutex);
    trouble->count++;
    tell(trouble);
    pthread_mutex_unlock(&trouble->mutex);
}

int64_t kv_trouble_count(kv_trouble *trouble)
{
    int64_t count;

    pthread_mutex_lock(&trouble->mutex);
    count = (int64_t)trouble->count;
    pthread_mutex_unlock(&trouble->mutex);
    return count;
}

/* Locked: the names of one word's endpoints. False: the next one does not fit. */
static bool word_take(kv_trouble *trouble, uint32_t word, kv_addresses *addresses, char *text,
                      uint32_t size, uint32_t *at)
{
    while (trouble->unreachable[word] != 0) {
        uint32_t bit = (uint32_t)__builtin_ctzll(trouble->unreachable[word]);
        const char *name = kv_addresses_name(addresses, word * WORD_BITS + bit);
        uint32_t name_size = (uint32_t)strlen(name);

        if (*at + name_size + 2 > size)
            return false;
        memcpy(text + *at, name, name_size);
        text[*at + name_size] = '\n';
        *at += name_size + 1;
        trouble->unreachable[word] &= trouble->unreachable[word] - 1;
        trouble->unreachable_count--;
    }
    return true;
}

int64_t kv_trouble_take(kv_trouble *trouble, kv_addresses *addresses, char *text, uint32_t size)
{
    uint32_t at = 0;
    uint64_t told;
    int64_t count;

    assert(size > 0);
    pthread_mutex_lock(&trouble->mutex);
    count = (int64_t)trouble->count;
    for (uint32_t i = 0; trouble->unreachable_count > 0 && i < KV_CLIENT_ENDPOINTS_MAX / WORD_BITS;
         i++)
        if (!word_take(trouble, i, addresses, text, size, &at))
            break;
    text[at] = '\0';
    if (trouble->unreachable_count == 0 && trouble->told)
        trouble->told = read(trouble->descriptor, &told, sizeof(told)) != sizeof(told);
    pthread_mutex_unlock(&trouble->mutex);
    return count;
}
