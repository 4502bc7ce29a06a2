/* The directory of an embedded store: made when missing, held by one process at a time. */
#ifndef KV_DIRECTORY_H
#define KV_DIRECTORY_H

#include <stdbool.h>
#include <stdint.h>

/* Lock the directory; *lock is a descriptor to give to kv_directory_close. With `make` it is created with its parents.
 * -EBUSY: somebody holds it. On failure `message` (KV_MESSAGE_SIZE) explains. */
int kv_directory_open(const char *path, bool make, int *lock, char *message);
void kv_directory_close(int lock);
/* Whether a store was begun here. */
bool kv_directory_holds_store(const char *path);
/* Bytes that the file system could still give, less a reserve. */
uint64_t kv_directory_space(const char *path);

#endif
