/* The directory of an embedded store and its lock: a flock on the file "lock", which the kernel
 * gives back however the process ends. The file names the holder for people. A reader without the
 * right to write locks it all the same, since flock asks for no more than an open file. */

#include "embedded/directory.h"

#include "engine/device.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LOCK_NAME "lock"
#define DIRECTORY_MODE 0777
#define LOCK_MODE 0666
#define SPACE_RESERVE_PERCENT 5u /* of the file system stays with others */

static int make_directories(const char *path)
{
    char partial[PATH_MAX];
    size_t size = strlen(path);

    if (size == 0 || size >= sizeof(partial))
        return -ENAMETOOLONG;
    memcpy(partial, path, size + 1);
    for (char *at = partial + 1; *at; at++) {
        if (*at != '/')
            continue;
        *at = 0;
        if (mkdir(partial, DIRECTORY_MODE) < 0 && errno != EEXIST)
            return -errno;
        *at = '/';
    }
    return mkdir(partial, DIRECTORY_MODE) < 0 && errno != EEXIST ? -errno : 0;
}

static void explain_busy(int lock, const char *path, char *message)
{
    char holder[32] = "";
    ssize_t size = pread(lock, holder, sizeof(holder) - 1, 0);

    holder[size > 0 ? strcspn(holder, "\n") : 0] = 0;
    snprintf(message, KV_MESSAGE_SIZE,
             "%s is open already, in process %s: a directory serves one process at a time", path,
             holder[0] ? holder : "(unknown)");
}

static void write_holder(int lock)
{
    char holder[32];
    int size = snprintf(holder, sizeof(holder), "%ld\n", (long)getpid());

    /* For people only: a failure changes nothing. */
    if (ftruncate(lock, 0) == 0 && pwrite(lock, holder, (size_t)size, 0) < 0)
        return;
}

/* Descriptor of the lock's file, KV_DIRECTORY_UNLOCKED, or another negative errno. */
static int lock_file_open(const char *name, kv_open_mode mode)
{
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, LOCK_MODE);

    if (lock >= 0)
        return lock;
    if (mode != KV_OPEN_READ_ONLY || (errno != EACCES && errno != EPERM && errno != EROFS))
        return -errno;
    if (errno == EROFS && access(name, F_OK) < 0 && errno == ENOENT)
        return KV_DIRECTORY_UNLOCKED;
    lock = open(name, O_RDONLY | O_CLOEXEC);
    return lock < 0 ? -errno : lock;
}

int kv_directory_open(const char *path, kv_open_mode mode, int *lock, char *message)
{
    char name[PATH_MAX];
    int result = mode == KV_OPEN_NORMAL ? make_directories(path) : 0;

    if (result < 0) {
        snprintf(message, KV_MESSAGE_SIZE, "the directory %s cannot be made: %s", path, strerror(-result));
        return result;
    }
    if (snprintf(name, sizeof(name), "%s/%s", path, LOCK_NAME) >= (int)sizeof(name))
        return -ENAMETOOLONG;
    *lock = lock_file_open(name, mode);
    if (*lock == KV_DIRECTORY_UNLOCKED)
        return 0;
    if (*lock < 0) {
        result = *lock;
        snprintf(message, KV_MESSAGE_SIZE, "%.300s cannot be opened: %s", name, strerror(-result));
        return result;
    }
    if (flock(*lock, LOCK_EX | LOCK_NB) < 0) {
        result = errno == EWOULDBLOCK ? -EBUSY : -errno;
        explain_busy(*lock, path, message);
        close(*lock);
        return result;
    }
    write_holder(*lock);
    return 0;
}

void kv_directory_close(int lock)
{
    assert(lock >= 0 || lock == KV_DIRECTORY_UNLOCKED);
    if (lock != KV_DIRECTORY_UNLOCKED)
        close(lock);
}

bool kv_directory_holds_store(const char *path)
{
    char name[PATH_MAX];
    int size = snprintf(name, sizeof(name), "%s/%s", path, kv_file_name(KV_FILE_SUPERBLOCK));

    if (size <= 0 || size >= (int)sizeof(name))
        return false;
    /* Who may not look inside is told so when the lock is opened. */
    return access(name, F_OK) == 0 || errno == EACCES;
}

uint64_t kv_directory_space(const char *path)
{
    struct statvfs system;
    uint64_t available;
    uint64_t reserve;

    if (statvfs(path, &system) < 0)
        return 0;
    available = (uint64_t)system.f_bavail * system.f_frsize;
    reserve = (uint64_t)system.f_blocks * system.f_frsize / 100 * SPACE_RESERVE_PERCENT;
    if (reserve > available / 2)
        reserve = available / 2;
    return available - reserve;
}
