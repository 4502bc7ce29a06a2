/* A small world of chains for simulation: virtual time, an agenda of events, connections that
 * delay and break, and what messages say. One seed is one world; nothing in it is random but by
 * its seed.
 *
 * Times are microseconds. Actors are targets (one to a node, each a process that may be killed,
 * stopped and started again), clients, and the manager. A connection has an opener, carries
 * messages in order both ways, and may be cut at any time. The opener hears nothing more of it
 * from then on, but what it sent may still arrive, much later, and after what it sends by another
 * one. */
#ifndef KV_CHAIN_WORLD_H
#define KV_CHAIN_WORLD_H

#include "client_act.h"

#include "bytes/hash.h"
#include "bytes/list.h"
#include "bytes/random.h"
#include "engine/engine.h"
#include "protocol/channel.h"
#include "protocol/forward.h"
#include "protocol/replica.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_TARGETS_MAX 4u
#define CHAIN_CLIENTS 5u
#define CHAIN_KEYS 4u
#define CHAIN_ITEMS_MAX 3u
#define CHAIN_LOOPS 2u /* connections of a target to its successor */
#define CHAIN_CONNECTIONS_MAX 32768u
#define CHAIN_HISTORY_MAX 1024u
#define CHAIN_VERSIONS_MAX 4096u
#define CHAIN_EXCUSES_MAX 256u

#define MILLISECOND 1000u
#define SECOND 1000000u
#define FOREVER UINT64_MAX

enum {
    ACTOR_MANAGER = CHAIN_TARGETS_MAX,
    ACTOR_CLIENTS,
    ACTOR_NOBODY = ACTOR_CLIENTS + CHAIN_CLIENTS
};

typedef enum chain_state {
    STATE_OFFLINE,
    STATE_WAITING,
    STATE_SYNCING,
    STATE_LASTSRV,
    STATE_SERVING
} chain_state;

/* What the manager says of the chain. `order`: targets, those that serve first. */
typedef struct chain_routing {
    uint64_t chain_version;
    uint32_t order[CHAIN_TARGETS_MAX];
    chain_state states[CHAIN_TARGETS_MAX]; /* by target */
} chain_routing;

typedef enum chain_message_kind {
    MESSAGE_HEARTBEAT,
    MESSAGE_ROUTING,
    MESSAGE_ASK_ROUTING,
    MESSAGE_UPDATE,
    MESSAGE_READ,
    MESSAGE_REPLY,
    MESSAGE_FORWARD,
    MESSAGE_FORWARDED
} chain_message_kind;

/* Beside those of forward.h: which keys the successor holds. */
#define FORWARD_LIST 5u

typedef struct chain_item {
    uint32_t key;
    uint32_t value; /* names the write that set it; 0: absent */
    uint64_t version;
    uint8_t status;
} chain_item;

typedef struct chain_message {
    chain_message_kind kind;
    uint32_t from, to;
    uint32_t connection; /* 0: none */
    bool reply;          /* goes back to the opener */
    bool delayed;        /* by the cut of its connection */
    uint64_t tag;        /* of the sender */
    uint64_t chain_version;
    uint32_t attempt;
    uint32_t forward;    /* kv_forward_kind, FORWARD_LIST */
    uint32_t operation;
    bool careful, repeated, if_absent, tight;
    uint32_t client;
    uint64_t sequence;
    kv_status status;
    uint32_t count;
    chain_item items[CHAIN_KEYS];
    uint32_t run;        /* heartbeat: of the process */
    uint64_t sent;
    chain_state local;   /* OFFLINE, WAITING (open), SERVING (lacks nothing as of chain_version) */
    chain_routing routing;
} chain_message;

typedef enum chain_event_kind {
    EVENT_ARRIVE,
    EVENT_NOTICE,      /* a: connection */
    EVENT_CAME,        /* a: job */
    EVENT_DECIDE,      /* a: job */
    EVENT_LAND,        /* a: job */
    EVENT_RESEND,      /* a: job, b: version and attempt */
    EVENT_BEFORE,      /* a: read */
    EVENT_LOOKUP,      /* a: read */
    EVENT_AFTER,       /* a: read */
    EVENT_HEARTBEAT,
    EVENT_RESYNC,
    EVENT_START,
    EVENT_TICK,        /* of the manager */
    EVENT_CLIENT,      /* a: operation */
    EVENT_FAULT,
    EVENT_HEAL
} chain_event_kind;

typedef struct chain_event {
    uint64_t time, order;
    chain_event_kind kind;
    uint32_t actor, run; /* run 0: of any process */
    uint64_t a, b;
    chain_message *message;
} chain_event;

typedef struct chain_connection {
    uint32_t from, from_run, to, to_run;
    bool open;
    uint64_t last[2];    /* arrival, by direction */
    uint64_t late_delay; /* cut: what is under way arrives by so much later, */
    uint32_t late_count; /* so many messages of it */
} chain_connection;

/* What a client did with one key. */
typedef struct chain_entry {
    uint32_t key;
    client_act act;
    uint32_t value; /* written or read */
    kv_status status;
    uint64_t start, end; /* FOREVER: its outcome is not known */
} chain_entry;

typedef struct chain_job chain_job;

typedef struct chain_read {
    kv_list place;
    uint64_t id;
    chain_message request;
    uint64_t given_up;
    uint32_t value;
    uint64_t chain_version;
} chain_read;

typedef enum resync_phase { RESYNC_COMPARE, RESYNC_LIST, RESYNC_SYNCED, RESYNC_OVER } resync_phase;

typedef struct chain_resync {
    bool active;
    resync_phase phase;
    uint64_t chain_version;
    uint64_t tag;       /* of the message that waits for a reply; 0: none */
    uint32_t next_key;
    uint32_t job_count;
    uint64_t turns;     /* SYNCED: at the end of what was compared */
    uint32_t refused;   /* keys to be sent again, by bits */
} chain_resync;

typedef struct chain_target {
    uint32_t id;
    uint32_t run;       /* counts processes */
    bool up;
    uint64_t paused_until, slow_until, unheard_until, isolated_until;
    bool tight;         /* short of space */
    struct { uint32_t value; uint64_t version; } store[CHAIN_KEYS]; /* survives the process */
    uint64_t unapplied_since[CHAIN_KEYS]; /* of a process that was killed; 0: nothing */
    kv_replica *replica; /* of the process, as everything below */
    kv_channels *channels;
    chain_routing routing;
    uint64_t lease_end;
    bool fenced;        /* says that it is offline until the manager has taken it out */
    uint64_t uptodate;  /* the chain version of which it lacks nothing */
    bool successor_tight;
    uint32_t successor; /* to whom `peers` lead */
    uint32_t peers[CHAIN_LOOPS];
    kv_list jobs, reads;
    chain_resync resync;
} chain_target;

typedef struct chain_report {
    chain_state local;
    uint64_t chain_version, lease_end;
} chain_report;

typedef struct chain_manager {
    chain_routing routing;
    chain_report reports[CHAIN_TARGETS_MAX];
    uint64_t paused_until;
} chain_manager;

typedef struct chain_client {
    uint32_t id;
    chain_routing routing;
    uint64_t operation;  /* counts them; its timers name it */
    uint64_t attempt;    /* counts what it sent, and names it */
    uint64_t sequence, start, give_up, paused_until;
    bool busy, repeated, update, if_absent, at_tail;
    uint32_t kind, connection, count;
    chain_item items[CHAIN_ITEMS_MAX];
} chain_client;

typedef struct chain_tally {
    uint64_t seeds, events, operations, unknown, changes, kills, cuts, stops;
    uint64_t dirty, syncs, refusals, time_us;
} chain_tally;

typedef struct chain_world {
    uint64_t seed, now, order, jobs_made, trace;
    kv_random random;
    bool faults, talks; /* talks: prints every event */
    uint32_t target_count, writes, operations_left, hot_key;
    chain_event *agenda; /* a heap */
    uint32_t agenda_count, agenda_room;
    chain_connection connections[CHAIN_CONNECTIONS_MAX];
    uint32_t connection_count;
    chain_target targets[CHAIN_TARGETS_MAX];
    chain_manager manager;
    chain_client clients[CHAIN_CLIENTS];
    chain_entry history[CHAIN_HISTORY_MAX];
    uint32_t history_count;
    struct { uint64_t version; uint32_t value, key; } versions[CHAIN_VERSIONS_MAX];
    uint32_t final_values[CHAIN_KEYS];
    struct { uint64_t from, to; uint32_t key; } excuses[CHAIN_EXCUSES_MAX]; /* see chain_excuse */
    uint32_t excuse_count;
    chain_tally *tally;
} chain_world;

__attribute__((format(printf, 2, 3), noreturn)) static inline void
chain_fail(const chain_world *world, const char *format, ...)
{
    va_list arguments;

    fflush(stdout);
    fprintf(stderr, "seed %llu at %llu us: ", (unsigned long long)world->seed,
            (unsigned long long)world->now);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

__attribute__((format(printf, 2, 3))) static inline void chain_say(const chain_world *world,
                                                                   const char *format, ...)
{
    va_list arguments;

    if (!world->talks)
        return;
    printf("%9llu  ", (unsigned long long)world->now);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

static inline uint64_t chain_draw(chain_world *world, uint64_t limit)
{
    return kv_random_below(&world->random, limit);
}

static inline bool chain_one_in(chain_world *world, uint64_t count)
{
    return kv_random_one_in(&world->random, count);
}

#ifdef CHAIN_UNCHECKED /* to see whether what clients see is enough to notice a fault */
#define CHAIN_INVARIANTS(replica) ((void)(replica))
#else
#define CHAIN_INVARIANTS(replica) kv_replica_invariants(replica)
#endif

/* Mostly short, sometimes long. */
static inline uint64_t chain_delay(chain_world *world)
{
    if (chain_one_in(world, 40))
        return chain_draw(world, 40 * MILLISECOND);
    return 50 + chain_draw(world, 400);
}

static inline uint64_t brief(chain_world *world, uint64_t milliseconds_max)
{
    return (1 + chain_draw(world, milliseconds_max)) * MILLISECOND;
}

static inline bool event_before(const chain_event *a, const chain_event *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static inline void agenda_push(chain_world *world, chain_event event)
{
    uint32_t at = world->agenda_count++;

    if (world->agenda_count > world->agenda_room) {
        world->agenda_room = world->agenda_room ? world->agenda_room * 2 : 1024;
        world->agenda = realloc(world->agenda, world->agenda_room * sizeof(event));
        assert(world->agenda != NULL);
    }
    event.order = world->order++;
    for (; at > 0 && event_before(&event, &world->agenda[(at - 1) / 2]); at = (at - 1) / 2)
        world->agenda[at] = world->agenda[(at - 1) / 2];
    world->agenda[at] = event;
}

static inline chain_event agenda_pop(chain_world *world)
{
    chain_event first = world->agenda[0], last = world->agenda[--world->agenda_count];
    uint32_t at = 0, count = world->agenda_count;

    for (uint32_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && event_before(&world->agenda[child + 1], &world->agenda[child]))
            child++;
        if (!event_before(&world->agenda[child], &last))
            break;
        world->agenda[at] = world->agenda[child];
        at = child;
    }
    world->agenda[at] = last;
    return first;
}

static inline void chain_plan(chain_world *world, uint64_t delay, chain_event_kind kind,
                              uint32_t actor, uint64_t a, uint64_t b)
{
    uint32_t run = actor < CHAIN_TARGETS_MAX ? world->targets[actor].run : 0;

    agenda_push(world, (chain_event){.time = world->now + delay, .kind = kind, .actor = actor,
                                     .run = run, .a = a, .b = b});
}

/* The process that an actor is now; 0: it is down. */
static inline uint32_t chain_run(const chain_world *world, uint32_t actor)
{
    if (actor >= CHAIN_TARGETS_MAX)
        return 1;
    return world->targets[actor].up ? world->targets[actor].run : 0;
}

static inline void connection_cut(chain_world *world, uint32_t number)
{
    chain_connection *connection = &world->connections[number];

    if (!connection->open)
        return;
    connection->open = false;
    connection->late_count = chain_one_in(world, 2) ? UINT32_MAX : (uint32_t)chain_draw(world, 4);
    connection->late_delay = chain_one_in(world, 2) ? chain_draw(world, 80 * MILLISECOND) : 0;
    if (chain_run(world, connection->from) == connection->from_run)
        chain_plan(world, chain_delay(world), EVENT_NOTICE, connection->from, number, 0);
}

/* Targets may be cut off from each other, while clients still reach them. */
static inline bool chain_isolated(const chain_world *world, uint32_t from, uint32_t to)
{
    return from < CHAIN_TARGETS_MAX && to < CHAIN_TARGETS_MAX &&
           (world->now < world->targets[from].isolated_until ||
            world->now < world->targets[to].isolated_until);
}

/* A connection to whoever is not there is cut at once, which is noticed as with any other. */
static inline uint32_t connection_open(chain_world *world, uint32_t from, uint32_t to)
{
    uint32_t number = ++world->connection_count;
    chain_connection *connection = &world->connections[number];

    assert(number < CHAIN_CONNECTIONS_MAX);
    *connection = (chain_connection){.from = from, .from_run = chain_run(world, from), .to = to,
                                     .to_run = chain_run(world, to), .open = true};
    if (connection->to_run == 0 || chain_isolated(world, from, to)) {
        connection_cut(world, number);
        connection->late_count = 0;
    }
    return number;
}

static inline void message_post(chain_world *world, const chain_message *message, uint64_t time)
{
    chain_message *copy = malloc(sizeof(*copy));

    assert(copy != NULL);
    *copy = *message;
    agenda_push(world, (chain_event){.time = time, .kind = EVENT_ARRIVE, .actor = message->to,
                                     .message = copy});
}

/* By a connection: in order, or never. */
static inline void message_send(chain_world *world, uint32_t number, bool reply,
                                chain_message *message)
{
    chain_connection *connection = &world->connections[number];
    uint64_t time = world->now + chain_delay(world);

    if (!connection->open)
        return;
    message->connection = number;
    message->reply = reply;
    message->from = reply ? connection->to : connection->from;
    message->to = reply ? connection->from : connection->to;
    if (time < connection->last[reply])
        time = connection->last[reply];
    connection->last[reply] = time;
    message_post(world, message, time);
}

/* To and from the manager: in any order, and some are lost. */
static inline void message_drop_in(chain_world *world, chain_message *message, uint32_t from,
                                   uint32_t to)
{
    uint32_t target = from < CHAIN_TARGETS_MAX ? from : to;

    if (world->faults && chain_one_in(world, 50))
        return;
    if (target < CHAIN_TARGETS_MAX && world->now < world->targets[target].unheard_until)
        return;
    message->connection = 0;
    message->from = from;
    message->to = to;
    message_post(world, message, world->now + chain_delay(world));
}

/* Whether a message that is there now is to be heard; one may be put off by the cut of its
 * connection. */
static inline bool message_arrives(chain_world *world, chain_message *message)
{
    chain_connection *connection = &world->connections[message->connection];
    uint32_t run;

    if (message->connection == 0)
        return chain_run(world, message->to) != 0;
    run = message->reply ? connection->from_run : connection->to_run;
    if (chain_run(world, message->to) != run)
        return false;
    if (connection->open)
        return true;
    if (message->reply || connection->late_count == 0)
        return false;
    if (connection->late_delay > 0 && !message->delayed) {
        message->delayed = true;
        message_post(world, message, world->now + connection->late_delay);
        return false;
    }
    connection->late_count--;
    return true;
}

static inline void chain_record(chain_world *world, chain_entry entry)
{
    assert(world->history_count < CHAIN_HISTORY_MAX);
    world->history[world->history_count++] = entry;
}

#endif
