/* A slower device, for programs that reach theirs by pread, pwrite and fdatasync of the C library:
 * to be preloaded. Each call takes SLOW_DEVICE_US longer, on its own: calls of several threads wait
 * at the same time, as commands do in a device with a queue. Files that were not opened with
 * O_DIRECT are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { US_A_SECOND = 1000000, NS_A_US = 1000 };

static void wait_for_device(int descriptor)
{
    const char *text = getenv("SLOW_DEVICE_US");
    long us = text == NULL ? 0 : atol(text);
    int file_flags = fcntl(descriptor, F_GETFL);
    if (us <= 0 || file_flags < 0 || (file_flags & O_DIRECT) == 0)
        return;
    struct timespec left = {us / US_A_SECOND, us % US_A_SECOND * NS_A_US};
    while (nanosleep(&left, &left) != 0)
        continue;
}

/* dlsym returns what it finds as a pointer to data; POSIX has it mean the function. */
#define NEXT(function, name) (*(void **)&(function) = dlsym(RTLD_NEXT, name))

ssize_t pread(int descriptor, void *memory, size_t size, off_t offset)
{
    ssize_t (*next)(int, void *, size_t, off_t);
    NEXT(next, "pread");
    wait_for_device(descriptor);
    return next(descriptor, memory, size, offset);
}

ssize_t pwrite(int descriptor, const void *memory, size_t size, off_t offset)
{
    ssize_t (*next)(int, const void *, size_t, off_t);
    NEXT(next, "pwrite");
    wait_for_device(descriptor);
    return next(descriptor, memory, size, offset);
}

int fdatasync(int descriptor)
{
    int (*next)(int);
    NEXT(next, "fdatasync");
    wait_for_device(descriptor);
    return next(descriptor);
}
