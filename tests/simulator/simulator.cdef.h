/* The simulator's interface: simulator.h includes this file and cffi reads it, after kvcore.cdef.h. Declarations only.
 *
 * A world is storage nodes and clients under virtual time, in nanoseconds from 0. Nodes count from 0; target t of node n has number
 * n * SIM_TARGETS_PER_NODE + t + 1, clients count from 0. Nothing happens but inside sim_run, and nothing is random but by the seed. */

#define SIM_NODES_MAX 8
#define SIM_TARGETS_PER_NODE 4
#define SIM_CLIENTS_MAX 16
#define SIM_CHAINS_MAX 16
#define SIM_ITEMS_MAX 4
#define SIM_MESSAGE_SIZE 512

typedef struct sim_options {
    uint64_t seed;
    uint32_t nodes;
    uint32_t targets_per_node;
    uint32_t clients;
    uint32_t chains;
    uint32_t keys;            /* of each chain */
    uint32_t batch_max;       /* items of an operation */
    uint32_t updates_percent;
    uint32_t deletes_percent; /* of updates */
    uint32_t value_size_max;
    uint32_t operations;      /* of all clients */
    uint32_t think_us;        /* between two operations of a client, at most */
    uint32_t durability;
    uint32_t memory_size;     /* of each target's DRAM tier */
    uint64_t capacity;        /* of each target */
    uint64_t margin;          /* with less free space updates are careful */
    uint32_t reorder;         /* device completions */
    uint32_t tear;            /* unflushed writes, inside sectors too */
    uint32_t stall_ms_max;    /* P5: the longest operation on a chain that no fault touches */
    uint32_t give_up_ms;      /* after so long a client takes its operation's outcome as unknown */
    uint32_t patience_ms;     /* after so long it sends again */
    uint32_t receive_us;      /* that values may take to come behind their keys; 0: they come with them */
    uint32_t talks;           /* print every event */
} sim_options;

typedef enum sim_effect_kind {
    SIM_NOTHING = 0,
    SIM_ASK = 1,         /* client `actor` wants newer routing info than it has; once until it gets some */
    SIM_SYNCED = 2,      /* node `actor`: `target` of it lacks nothing any more */
    SIM_LOST = 3,        /* node `actor`: a connection to `target` of another node cannot be had */
    SIM_OFFLINE = 4,     /* node `actor`: `target` of it has left its chain */
    SIM_DIED = 5,        /* node `actor`, as armed by sim_node_kill_at */
    SIM_FAILED = 6       /* the checker found a violation: sim_failure */
} sim_effect_kind;

typedef struct sim_effect {
    uint32_t kind;
    uint32_t actor;
    uint32_t target;
} sim_effect;

typedef struct sim_tally {
    uint64_t events, operations, items, unknown, dirty, refusals, synced_keys, kills, power_cuts;
    uint64_t device_writes, excused_reads, damaged_values, repaired_values, undisturbed;
    uint64_t latency_max_ns;  /* of operations on chains that no fault touched */
} sim_tally;

typedef struct sim_world sim_world;

sim_world *sim_open(const sim_options *options);
void sim_close(sim_world *world);
uint64_t sim_now(const sim_world *world);
/* Until then, or until there is an effect; returns the time reached. */
uint64_t sim_run(sim_world *world, uint64_t until_ns, sim_effect *effect);
const char *sim_failure(const sim_world *world);
/* Of all that happened. */
uint64_t sim_trace(const sim_world *world);
/* Something that happened outside becomes part of the trace. */
void sim_mark(sim_world *world, const char *what, uint64_t number);
void sim_tally_read(const sim_world *world, sim_tally *tally);

/* Nodes as their owner sees them: kv_node_set_chains and its like. `successor_node` of a place is the index of a node. */
int sim_node_start(sim_world *world, uint32_t node);
void sim_node_set_chains(sim_world *world, uint32_t node, uint64_t routing_version, const kv_chain_place *places, uint32_t count);
void sim_node_set_lease(sim_world *world, uint32_t node, uint64_t end_ns);
int sim_node_chain_states(sim_world *world, uint32_t node, kv_chain_state *states, int max);
int sim_node_up(const sim_world *world, uint32_t node);
uint64_t sim_node_objects(const sim_world *world, uint32_t node);
/* Its own monotonic clock. */
uint64_t sim_node_clock(const sim_world *world, uint32_t node);
void sim_node_clock_rate(sim_world *world, uint32_t node, int32_t parts_per_million);
void sim_node_wall_jump(sim_world *world, uint32_t node, int64_t ms);

/* Faults. A kill takes the process, a power cut what its devices had not flushed, too. */
void sim_node_kill(sim_world *world, uint32_t node, uint32_t power);
/* At the so manieth event of its devices from now: SIM_DIED follows. */
void sim_node_kill_at(sim_world *world, uint32_t node, uint32_t power, uint32_t device_events);
void sim_node_pause(sim_world *world, uint32_t node, uint64_t until_ns);
void sim_client_pause(sim_world *world, uint32_t client, uint64_t until_ns);
/* Messages from one node to another are held back till then; both: UINT32_MAX is every one, but no client. `reset`: connections between them are cut as well. */
void sim_link_block(sim_world *world, uint32_t from, uint32_t to, uint64_t until_ns, uint32_t reset);
/* The same for what clients say to a node, and hear from it. */
void sim_clients_block(sim_world *world, uint32_t node, uint64_t until_ns);
void sim_link_slow(sim_world *world, uint32_t node, uint64_t until_ns, uint32_t delay_us);
/* One of the connections opened last. */
void sim_connection_cut(sim_world *world);
/* One of those by which a node's targets reach their successors. */
void sim_peer_cut(sim_world *world, uint32_t node);
void sim_device_slow(sim_world *world, uint32_t target, uint64_t until_ns, uint32_t delay_us);
void sim_device_stick(sim_world *world, uint32_t target, uint64_t until_ns);
/* The next operation of that kind on the file fails so. */
void sim_device_fail(sim_world *world, uint32_t target, uint32_t kind, uint32_t file, int error);
/* Bits of one stored value rot. */
void sim_device_rot(sim_world *world, uint32_t target);
void sim_device_space(sim_world *world, uint32_t target, uint64_t bytes);

/* Clients. */
void sim_client_learn(sim_world *world, uint32_t client, uint32_t chain, uint64_t chain_version, const uint32_t *serving, uint32_t count);
void sim_begin(sim_world *world);
/* No fault comes any more: nothing may be given up. */
void sim_heal(sim_world *world);
/* Operations of these chains may take long till then, as faults touch them. */
void sim_disturb(sim_world *world, uint32_t chains, uint64_t until_ns);
/* All operations are over, and nothing is under way at any node. */
int sim_is_quiet(const sim_world *world);
/* Who waits for what, for people. */
void sim_describe(const sim_world *world, char *text, uint32_t size);

/* Checks; what they find is in sim_failure. */
/* The target has no right to serve any more. */
void sim_check_fenced(sim_world *world, uint32_t target);
/* These hold the same: also what every later reader would see. */
void sim_check_equal(sim_world *world, const uint32_t *targets, uint32_t count);
void sim_check_history(sim_world *world);
