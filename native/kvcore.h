/* The C core as C programs see it: what cffi reads, with the types it needs. */
#ifndef KVCORE_H
#define KVCORE_H

#include <stddef.h>
#include <stdint.h>

#include "kvcore.cdef.h"

_Static_assert(sizeof(kv_item) == 32, "kv_item is filled by kvstore._columns: its layout is fixed");

#endif
