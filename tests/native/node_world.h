/* A real storage node in this process, on directories of its own, for tests of native/node. */
#ifndef NODE_WORLD_H
#define NODE_WORLD_H

#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORLD_TARGETS_MAX 2u
#define WORLD_CLOSE_MS 20000u
#define WORLD_WAIT_MS 20000

typedef struct node_world {
    kv_node_options options;
    kv_store_options store;
    char directories[WORLD_TARGETS_MAX][64];
    uint32_t target_count;
    kv_node *node;
    int port;
} node_world;

static inline void world_directories_make(node_world *world)
{
    for (uint32_t i = 0; i < world->target_count; i++) {
        snprintf(world->directories[i], sizeof(world->directories[i]), "%s",
                 "/tmp/kv-test-node-XXXXXX");
        assert(mkdtemp(world->directories[i]));
    }
}

static inline void world_directories_remove(node_world *world)
{
    static const char *const names[] = {"superblock",   "slabs",        "journal-0", "journal-1",
                                        "checkpoint-0", "checkpoint-1", "lock"};
    char name[96];

    for (uint32_t i = 0; i < world->target_count; i++) {
        for (uint32_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            snprintf(name, sizeof(name), "%s/%s", world->directories[i], names[k]);
            unlink(name);
        }
        assert(rmdir(world->directories[i]) == 0);
    }
}

static inline void world_start(node_world *world)
{
    char message[KV_MESSAGE_SIZE] = "";

    if (kv_node_open(&world->options, &world->node, message) < 0) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    for (uint32_t i = 0; i < world->target_count; i++) {
        kv_store_options store = world->store;

        store.directory = world->directories[i];
        if (kv_node_add_target(world->node, i + 1, &store, message) < 0) {
            fprintf(stderr, "%s\n", message);
            abort();
        }
    }
    world->port = kv_node_listen(world->node, "127.0.0.1", 0, message);
    if (world->port <= 0) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
}

static inline void world_stop(node_world *world)
{
    assert(kv_node_close(world->node, WORLD_CLOSE_MS) == 0);
    world->node = NULL;
}

/* A node with `targets` targets, small, on the thread driver unless the caller changes that. */
static inline node_world world_plan(uint32_t targets)
{
    return (node_world){.options = {.node = 7, .reactors = 1, .reactor_driver = KV_REACTOR_EPOLL},
                        .store = {.capacity = 192u << 20,
                                  .memory = 96u << 20,
                                  .durability = KV_DURABILITY_MEMORY,
                                  .driver = KV_DRIVER_THREADS},
                        .target_count = targets};
}

static inline void world_open(node_world *world)
{
    world_directories_make(world);
    world_start(world);
}

static inline void world_close(node_world *world)
{
    world_stop(world);
    world_directories_remove(world);
}

/* Some machines forbid io_uring. */
static inline bool world_may_use_uring(void)
{
    kv_node_options options = {.reactors = 1, .reactor_driver = KV_REACTOR_URING};
    char message[KV_MESSAGE_SIZE];
    kv_node *node;

    if (kv_node_open(&options, &node, message) < 0)
        return false;
    assert(kv_node_close(node, WORLD_CLOSE_MS) == 0);
    return true;
}

static inline kv_node_statistics world_statistics(node_world *world)
{
    kv_node_statistics statistics;

    kv_node_statistics_read(world->node, &statistics);
    return statistics;
}

/* What clients closed, or what they do without waiting, the node learns in its own time. */
static inline void world_wait_connections(node_world *world, uint64_t count)
{
    while (world_statistics(world).connections != count)
        sched_yield();
}

/* Wait for an event of a kind and return it; others are passed over. */
static inline kv_node_event world_event(node_world *world, kv_node_event_kind kind)
{
    struct pollfd waited = {.fd = kv_node_event_descriptor(world->node), .events = POLLIN};
    kv_node_event event;

    for (;;) {
        if (poll(&waited, 1, WORLD_WAIT_MS) != 1) {
            fprintf(stderr, "no event of kind %d came\n", (int)kind);
            abort();
        }
        if (kv_node_take_events(world->node, &event, 1) == 1 && event.kind == kind)
            return event;
    }
}

/* The events that are there, of any kind. */
static inline void world_events_drop(node_world *world)
{
    kv_node_event events[64];

    while (kv_node_take_events(world->node, events, 64) > 0)
        ;
}

#endif
