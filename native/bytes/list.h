/* An intrusive doubly linked list with a sentinel: an element is on one list or on none.
 *
 *   sentinel <-> first <-> ... <-> last <-> sentinel */
#ifndef KV_LIST_H
#define KV_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct kv_list {
    struct kv_list *next;
    struct kv_list *previous;
} kv_list;

#define KV_CONTAINER(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

static inline void kv_list_init(kv_list *list)
{
    list->next = list;
    list->previous = list;
}

static inline bool kv_list_empty(const kv_list *list)
{
    return list->next == list;
}

static inline void kv_list_append(kv_list *list, kv_list *element)
{
    element->next = list;
    element->previous = list->previous;
    list->previous->next = element;
    list->previous = element;
}

/* Take an element off its list; it then counts as a list of its own (empty). */
static inline void kv_list_remove(kv_list *element)
{
    element->previous->next = element->next;
    element->next->previous = element->previous;
    kv_list_init(element);
}

/* First element, taken off; NULL when the list is empty. */
static inline kv_list *kv_list_pop(kv_list *list)
{
    kv_list *first = list->next;

    if (first == list)
        return NULL;
    kv_list_remove(first);
    return first;
}

#endif
