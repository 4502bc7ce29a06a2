/* The directory of an embedded store: made when missing, held by one process at a time. */
#ifndef KV_DIRECTORY_H
#define KV_DIRECTORY_H

#include "kvcore.h"

#include <stdbool.h>
#include <stdint.h>

#define KV_DIRECTORY_UNLOCKED (-4096) /* no errno */

/* Lock the directory; *lock is a descriptor to give to kv_directory_close. KV_OPEN_NORMAL creates it with its parents.
 * KV_OPEN_READ_ONLY makes do with the right to read: a lock that may not be written is still taken, and where there
 * is none on a read-only file system, none is needed: *lock is KV_DIRECTORY_UNLOCKED.
 * -EBUSY: somebody holds it. On failure `message` (KV_MESSAGE_SIZE) explains. */
int kv_directory_open(const char *path, kv_open_mode mode, int *lock, char *message);
void kv_directory_close(int lock);
/* Whether a store was begun here. */
bool kv_directory_holds_store(const char *path);
/* Bytes that the file system could still give, less a reserve. */
uint64_t kv_directory_space(const char *path);

#endif
