/* The parts of a simulated world, and what they say to each other. What is simulated are the
 * threads, sockets and clocks of nodes and clients; the replica, the channels, the codec of
 * forwards and the engine are the production ones. See simulator.cdef.h. */
#ifndef SIMULATOR_H
#define SIMULATOR_H

#include "../native/client_act.h"

#include "bytes/hash.h"
#include "bytes/list.h"
#include "bytes/random.h"
#include "drivers/device_sim.h"
#include "engine/engine.h"
#include "protocol/channel.h"
#include "protocol/forward.h"
#include "protocol/message.h"
#include "protocol/replica.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC visibility push(default)
#include "simulator.cdef.h"
#pragma GCC visibility pop

#define MICROSECOND 1000ull
#define MILLISECOND 1000000ull
#define SECOND 1000000000ull
#define FOREVER UINT64_MAX

#define SIM_TARGETS_MAX (SIM_NODES_MAX * SIM_TARGETS_PER_NODE)
#define SIM_ACTORS_MAX (SIM_NODES_MAX + SIM_CLIENTS_MAX)
#define SIM_LOOPS 2u /* connections of a target to its successor */
#define SIM_KEY_SIZE 6u
#define SIM_VALUE_SIZE_MIN 16u /* the key, and the write that set it */
#define SIM_EFFECTS_MAX 64u
#define SIM_RESYNC_PAGE 8u
#define SIM_PLACES 4u

typedef struct sim_item {
    uint32_t key;
    uint64_t write; /* names what set the value; 0: absent */
    uint8_t status;
} sim_item;

typedef enum sim_message_kind {
    SIM_UPDATE,
    SIM_READ,
    SIM_REPLY,
    SIM_FORWARD,   /* head and columns of forward.h, then values */
    SIM_FORWARDED, /* the same */
    SIM_LIST,      /* which keys the successor holds, and its answer */
    SIM_LISTED
} sim_message_kind;

typedef struct sim_message {
    sim_message_kind kind;
    uint32_t from, to;   /* actors */
    uint32_t connection;
    bool reply;          /* goes back to the opener */
    bool delayed;        /* by the cut of its connection */
    uint32_t target;
    uint64_t tag;        /* of the sender */
    uint64_t chain_version;
    uint32_t attempt;
    uint32_t operation;
    bool if_absent, repeated;
    uint32_t client;
    uint64_t sequence;
    kv_status status;
    uint32_t count;
    sim_item items[SIM_ITEMS_MAX];
    kv_message_head head;
    uint32_t size;
    uint8_t bytes[];
} sim_message;

typedef enum sim_event_kind {
    EVENT_ARRIVE,
    EVENT_NOTICE,     /* a: connection */
    EVENT_DEVICE,     /* a completion */
    EVENT_MAINTAIN,
    EVENT_VALUES,     /* a: job */
    EVENT_DECIDE,     /* a: job */
    EVENT_KEYS_AGAIN, /* a: job */
    EVENT_RESEND,     /* a: job, b: version and attempt */
    EVENT_RETRY,      /* of connections to the successor */
    EVENT_LOOK_UP,    /* a: read */
    EVENT_CHECK,      /* a: read */
    EVENT_RESYNC,
    EVENT_CLIENT      /* a: operation, b: attempt */
} sim_event_kind;

typedef struct sim_event {
    uint64_t time, order;
    sim_event_kind kind;
    uint32_t actor, run; /* run 0: of any process */
    uint32_t target;
    uint64_t a, b;
    sim_message *message;
} sim_event;

typedef struct sim_connection {
    uint32_t from, from_run, to, to_run;
    bool open, failed;   /* failed: it never was there */
    uint64_t last[2];    /* arrival, by direction */
    uint64_t late_delay; /* cut: what is under way arrives by so much later, */
    uint32_t late_count; /* so many messages of it */
    uint64_t values_until; /* the opener's next message comes behind values */
} sim_connection;

/* What a client did with one key. */
typedef struct sim_entry {
    uint32_t key;
    client_act act;
    uint64_t write;
    kv_status status;
    uint64_t start, end; /* FOREVER: its outcome is not known */
} sim_entry;

/* An operation of an engine, and who has it. */
typedef enum sim_owner_kind { OWNER_JOB, OWNER_READ, OWNER_INTERNAL } sim_owner_kind;

typedef struct sim_owner {
    kv_list ready; /* target.ready */
    sim_owner_kind kind;
    kv_operation *operation; /* NULL: none, or finished */
    bool answered;
} sim_owner;

typedef struct sim_job {
    kv_list place; /* target.jobs */
    uint64_t id;
    kv_update update;
    kv_update_key keys[SIM_ITEMS_MAX];
    char key_bytes[SIM_ITEMS_MAX][SIM_KEY_SIZE];
    uint8_t statuses[SIM_ITEMS_MAX], refusals[SIM_ITEMS_MAX];
    bool here[SIM_ITEMS_MAX];
    uint64_t versions[SIM_ITEMS_MAX];
    sim_item items[SIM_ITEMS_MAX];
    sim_owner owner;
    kv_request request;
    kv_item engine_items[SIM_ITEMS_MAX];
    kv_item_stat stats[SIM_ITEMS_MAX];
    kv_request apply; /* what is not SET: what is not refused */
    kv_item apply_items[SIM_ITEMS_MAX];
    uint32_t apply_indices[SIM_ITEMS_MAX];
    uint32_t operation, forward, tries;
    bool late; /* its values are under way yet */
    bool if_absent, refusable, retained, settled, entered, deciding, applying, ending, repeated, recorded;
    bool concluded;
    kv_status end_status;
    kv_channel *channel; /* NULL: not recorded here */
    uint64_t came;
    uint32_t pushing, pushed; /* the item and the byte that come next */
    bool lent[SIM_ITEMS_MAX];
    sim_message *message;     /* that brought it; NULL: nobody */
    const uint8_t *values;    /* of the message */
} sim_job;

typedef struct sim_read {
    kv_list place; /* target.reads */
    uint64_t id;
    sim_message *message;
    sim_owner owner;
    kv_request request;
    kv_item items[SIM_ITEMS_MAX];
    kv_item_stat stats[SIM_ITEMS_MAX];
    char key_bytes[SIM_ITEMS_MAX][SIM_KEY_SIZE];
    bool dirty[SIM_ITEMS_MAX];
    bool checked;
    uint64_t epoch;
} sim_read;

typedef enum sim_resync_phase {
    RESYNC_QUIET, /* until what cannot be forwarded has ended */
    RESYNC_LIST,
    RESYNC_COMPARE,
    RESYNC_TELL,
    RESYNC_OVER
} sim_resync_phase;

typedef struct sim_resync {
    bool active;
    sim_resync_phase phase;
    uint64_t chain_version;
    uint64_t tag;       /* of the message that waits for a reply; 0: none */
    uint32_t next_key;  /* of the chain */
    uint32_t job_count;
    uint64_t turns;     /* TELL: at the end of what was compared */
    bool failed;
    uint32_t page[SIM_RESYNC_PAGE];
    uint32_t page_count;
} sim_resync;

typedef struct sim_target {
    sim_world *world;
    struct sim_node *node;
    uint32_t number, chain; /* chain: index, as it was told last */
    kv_sim *sim;            /* survives the process, as everything down to `memory` */
    uint64_t device_slow_until, device_stuck_until;
    uint32_t device_delay_us;
    uint64_t *unapplied_since; /* by key: of a process that was killed; 0: nothing */
    uint8_t *memory;
    bool open;              /* its engine; of the process, as everything below */
    kv_engine *engine;
    kv_device *device;
    kv_replica *replica;
    kv_chain_place place;
    bool offline, maintaining, maintain_due, device_due;
    uint32_t offline_errno;
    uint64_t uptodate, epoch, given_up;
    uint64_t space_free, space_at, successor_free;
    uint32_t unretained_count;
    uint32_t successor;     /* to whom `peers` lead */
    uint32_t peers[SIM_LOOPS];
    uint64_t retry_at;      /* the successor cannot be reached till then */
    kv_list jobs, reads, ready;
    sim_owner internal; /* maintenance's */
    sim_resync resync;
} sim_target;

typedef struct sim_node {
    uint32_t id;
    uint32_t run; /* counts processes */
    bool up, dying;
    uint32_t dying_power;
    uint64_t paused_until, slow_until, clients_blocked_until;
    uint32_t slow_us;
    uint64_t clock_base, clock_from; /* its clock was this at that time, */
    int64_t clock_rate;              /* and runs faster by so many millionths */
    int64_t wall_ms;
    uint64_t lease_end, routing_version;
    kv_channels *channels;
    sim_target targets[SIM_TARGETS_PER_NODE];
} sim_node;

typedef struct sim_route {
    uint64_t chain_version;
    uint32_t count;
    uint32_t serving[SIM_NODES_MAX]; /* targets, head first */
} sim_route;

typedef struct sim_client {
    uint32_t id;
    sim_route routes[SIM_CHAINS_MAX];
    uint64_t operation; /* counts them; its timers name it */
    uint64_t attempt;   /* counts what it sent, and names it */
    uint64_t sequence, start, give_up, paused_until;
    bool busy, asked, repeated, update, if_absent, at_tail, disturbed;
    uint32_t chain, kind, connection, count, slow_target;
    sim_item items[SIM_ITEMS_MAX];
    bool done[SIM_ITEMS_MAX];
} sim_client;

typedef struct sim_version {
    uint64_t version, write;
    uint32_t key;
} sim_version;

typedef struct sim_excuse {
    uint64_t from, to;
    uint32_t key;
} sim_excuse;

struct sim_world {
    sim_options options;
    uint64_t now, order, numbers, trace;
    kv_random network, disks, load, faults; /* one for each concern */
    bool working, healing;
    uint32_t operations_left, key_count;
    uint64_t writes;
    uint32_t hot_keys[SIM_CHAINS_MAX];
    sim_event *agenda; /* a heap */
    uint32_t agenda_count, agenda_room;
    sim_connection *connections;
    uint32_t connection_count, connection_room;
    uint64_t blocked_until[SIM_NODES_MAX][SIM_NODES_MAX];
    uint64_t disturbed_until[SIM_CHAINS_MAX];
    sim_node nodes[SIM_NODES_MAX];
    sim_client clients[SIM_CLIENTS_MAX];
    sim_entry *history;
    uint32_t history_count, history_room;
    sim_version *versions; /* a table by hash */
    uint32_t version_count, version_room;
    sim_excuse *excuses;
    uint32_t excuse_count, excuse_room;
    sim_effect effects[SIM_EFFECTS_MAX];
    uint32_t effect_first, effect_count;
    char failure[SIM_MESSAGE_SIZE];
    sim_tally tally;
};

/* world.c: time, chance, the network. */
__attribute__((format(printf, 2, 3))) void sim_fail(sim_world *world, const char *format, ...);
__attribute__((format(printf, 2, 3))) void sim_say(const sim_world *world, const char *format, ...);
/* False: what does not fit is left out. */
bool sim_tell(sim_world *world, sim_effect_kind kind, uint32_t actor, uint32_t target);
void sim_push(sim_world *world, sim_event event);
sim_event sim_pop(sim_world *world);
/* For a process of now, or a client. */
void sim_plan(sim_world *world, uint64_t delay, sim_event_kind kind, uint32_t actor,
              uint32_t target, uint64_t a, uint64_t b);
uint64_t sim_delay(sim_world *world);
uint32_t sim_run_of(const sim_world *world, uint32_t actor);
uint64_t *sim_paused_until(sim_world *world, uint32_t actor);
uint32_t sim_connect(sim_world *world, uint32_t from, uint32_t to);
void sim_cut(sim_world *world, uint32_t number);
sim_message *sim_message_make(uint32_t size);
/* By a connection: in order, or never. The message is the network's from then on. */
void sim_send(sim_world *world, uint32_t number, bool reply, sim_message *message);
bool sim_arrives(sim_world *world, sim_message **message);
/* Back to whoever sent it, with what it says now. */
void sim_answer(sim_world *world, const sim_message *request, sim_message *answer);

/* storage.c: a target's engine on its device. */
bool sim_storage_open(sim_world *world, sim_target *target);
/* False: the engine does not take it. Its first step follows, as every other, in a turn. */
bool sim_storage_begin(sim_target *target, sim_owner *owner, kv_request *request);
/* It has something to do. */
void sim_storage_claim(sim_target *target, sim_owner *owner);
/* One step of who wants one; whoever has the operation is told what came of it. False: nobody. */
bool sim_storage_step(sim_world *world, sim_target *target);
/* After anything that may have brought device operations about. */
void sim_storage_stir(sim_world *world, sim_target *target);
void sim_storage_event(sim_world *world, sim_target *target, const sim_event *event);
void sim_storage_close(sim_target *target, bool power);
/* Of a killed process; its device is dead. */
void sim_owner_abandon(sim_owner *owner);
uint64_t sim_storage_free(sim_world *world, sim_target *target);
void sim_storage_give_back(sim_world *world, sim_target *target);
void sim_owner_init(sim_owner *owner, sim_owner_kind kind);
/* Whether the object at a key has this version. */
bool sim_storage_has(const sim_target *target, uint32_t key, uint64_t version);
/* Look for what has rotted, and repair it. */
void sim_storage_scrub(sim_world *world, sim_target *target);
/* The write that a key's value is of, at once; 0: absent. */
uint64_t sim_storage_get(sim_world *world, sim_target *target, uint32_t key);
bool sim_storage_peek(const sim_target *target, uint32_t key, kv_item_stat *stat, uint32_t *size);

/* values.c: which bytes a write sets. */
void sim_key_bytes(uint32_t key, char bytes[SIM_KEY_SIZE]);
uint32_t sim_key_of(const void *bytes);
uint32_t sim_value_size(const sim_world *world, uint64_t write);
void sim_value_fill(const sim_world *world, uint32_t key, uint64_t write, uint8_t *value);
/* The write that a value is of; 0, and the world has failed, if it is of none. */
uint64_t sim_value_write(sim_world *world, uint32_t key, const uint8_t *value, uint32_t size);
uint64_t sim_ranges_write(sim_world *world, uint32_t key, const struct iovec *ranges,
                          uint32_t count, uint32_t size);
/* One version is one value of one key, for ever. */
void sim_version_note(sim_world *world, uint32_t key, uint64_t version, uint64_t write);
/* 0: nobody has said. */
uint64_t sim_version_write(const sim_world *world, uint32_t key, uint64_t version);

/* job.c: updates, from the message that brought them to the reply; turn.c: what is decided at their
 * turn; forward.c: on their way to the successor. */
sim_job *sim_job_make(sim_world *world, sim_target *target, kv_update_source source,
                      uint32_t operation, uint32_t count);
sim_job *sim_job_find(sim_target *target, uint64_t id);
void sim_job_begin(sim_world *world, sim_target *target, sim_job *job);
void sim_job_event(sim_world *world, sim_target *target, const sim_event *event);
void sim_job_stepped(sim_world *world, sim_target *target, sim_job *job);
void sim_job_take_turn(sim_world *world, sim_target *target, sim_job *job);
void sim_job_decided(sim_world *world, sim_target *target, sim_job *job, kv_status status);
/* What a target has not applied, as it was killed or its device failed, may be lost with it. */
void sim_job_lose(sim_target *target, const sim_job *job);
void sim_job_free(sim_target *target, sim_job *job);
/* Steps and effects, until nothing is left to do now. */
void sim_turn(sim_world *world, sim_target *target);
void sim_target_fail(sim_world *world, sim_target *target, int error, const char *why);
void sim_forward(sim_world *world, sim_target *target, sim_job *job);
void sim_forward_hear(sim_world *world, sim_target *target, sim_message *message);
void sim_forwarded_send(sim_world *world, sim_target *target, const sim_message *request,
                        kv_status status, const uint8_t *statuses, uint32_t count);
void sim_forwarded_hear(sim_world *world, sim_target *target, const sim_message *message);
/* NULL: not to be reached now. */
uint32_t *sim_peer(sim_world *world, sim_target *target, uint32_t loop);
void sim_peer_notice(sim_world *world, sim_target *target, uint32_t connection);

/* read.c */
void sim_read_hear(sim_world *world, sim_target *target, sim_message *message);
void sim_read_event(sim_world *world, sim_target *target, const sim_event *event);
void sim_read_stepped(sim_world *world, sim_target *target, sim_read *read);
void sim_read_free(sim_read *read);
void sim_refuse(sim_world *world, const sim_message *request, kv_status status);

/* resync.c: feeding a successor. */
void sim_resync_look(sim_world *world, sim_target *target);
void sim_resync_configure(sim_world *world, sim_target *target);
void sim_resync_severed(sim_world *world, sim_target *target);
void sim_resync_hear(sim_world *world, sim_target *target, const sim_message *message,
                     const uint8_t *statuses);
void sim_resync_job_ended(sim_world *world, sim_target *target, const sim_job *job);
void sim_sync_look(sim_world *world, sim_target *target, sim_job *job);
void sim_sync_stepped(sim_world *world, sim_target *target, sim_job *job);
void sim_list_hear(sim_world *world, sim_target *target, const sim_message *message);

/* node.c */
bool sim_leased(const sim_world *world, const sim_node *node);
sim_target *sim_target_of(sim_world *world, uint32_t number);
void sim_node_hear(sim_world *world, sim_node *node, sim_message *message);
void sim_node_event(sim_world *world, sim_node *node, const sim_event *event);
/* What readers look at. */
void sim_show(sim_target *target);
void sim_node_die(sim_world *world, sim_node *node, bool power);

/* client.c */
void sim_client_hear(sim_world *world, sim_client *client, const sim_message *message);
void sim_client_event(sim_world *world, sim_client *client, const sim_event *event);

/* history.c */
void sim_record(sim_world *world, sim_entry entry);
/* What readers saw of a key from then to now may have gone away with the last process that had it. */
void sim_excuse_key(sim_world *world, uint32_t key, uint64_t from);

static inline uint64_t sim_draw(kv_random *random, uint64_t limit)
{
    return kv_random_below(random, limit);
}

static inline bool sim_one_in(kv_random *random, uint64_t count)
{
    return kv_random_one_in(random, count);
}

static inline uint32_t sim_chain_of_key(const sim_world *world, uint32_t key)
{
    return key / world->options.keys;
}

static inline void *sim_grow(void *old, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room)
        return old;
    *room = *room ? *room * 2 : 256;
    old = realloc(old, *room * size);
    assert(old != NULL);
    return old;
}

#ifdef SIM_UNCHECKED /* to see whether what clients see is enough to notice a fault */
#define SIM_INVARIANTS(replica) ((void)(replica))
#else
#define SIM_INVARIANTS(replica) kv_replica_invariants(replica)
#endif

#endif
