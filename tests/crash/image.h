/* The states that a crash may leave a directory in, given what was asked of the system before.
 *
 *   power   what a flush covered is there. Of what was written since, any part may be: whole
 *           writes, in any order, or single sectors, and one sector may be torn. A file is as long
 *           as any change of length since the last flush left it, or as a write made it. A
 *           file that was made is there if the directory was flushed since; else it may be.
 *   kill    what had ended is there, and any part of what had not: the system goes on.
 *
 * What is there unflushed is drawn from a seed, cut by cut. */
#ifndef IMAGE_H
#define IMAGE_H

#include "bytes/random.h"
#include "record.h"

#define IMAGE_SECTOR 512u

typedef struct image_file {
    uint8_t *base;        /* what is durable; zeros beyond base_size */
    uint64_t base_size;
    uint64_t capacity;    /* no event reaches further */
    bool exists;          /* durably */
    uint32_t *pending;    /* events since, not durable yet, in order */
    uint32_t pending_count;
    uint8_t *dirty;       /* by block: the directory's copy differs from base */
} image_file;

typedef struct image {
    const record_log *record;
    const char *directory;
    int folder;
    image_file files[KV_FILE_COUNT];
    uint32_t forget;      /* record_kind whose flushes are left out, for a self-test; 0: none */
    kv_file forget_file;
} image;

/* How what is not durable is drawn. */
typedef enum image_style {
    IMAGE_NOTHING = 0,
    IMAGE_ALL = 1,
    IMAGE_PREFIX = 2,       /* of the writes, in their order */
    IMAGE_ALL_BUT_ONE = 3,
    IMAGE_ONE = 4,
    IMAGE_WRITES = 5,       /* each write, or not */
    IMAGE_SECTORS = 6,      /* each sector, or not */
    IMAGE_TEAR = 7,         /* all, the last one cut within a sector */
    IMAGE_STYLES = 8
} image_style;

void image_open(image *all, const record_log *log, const char *directory);
void image_close(image *all);
/* Back to before the first event. */
void image_rewind(image *all);
/* Event `at` happens; true: a crash behind it may show something new. */
bool image_step(image *all, uint32_t at);
/* Make the directory what a crash behind event `cut` may leave. */
void image_build(image *all, uint32_t cut, bool power, image_style style, kv_random *random);
/* Make it the durable state again, whatever was changed meanwhile. */
void image_restore(image *all);
/* A store has changed part of a file; `size` UINT64_MAX: or its length. */
void image_changed(image *all, kv_file file, uint64_t offset, uint64_t size);

#endif
