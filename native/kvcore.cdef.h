/* The C core's whole interface. kvcore.h includes this file and cffi reads it,
 * so it holds declarations only: no #include, no #if, no macro but a number. */

/* Limits. Sizes in bytes. */
#define KV_KEY_SIZE_LIMIT 1024
#define KV_VALUE_SIZE_LIMIT 67108864
#define KV_BATCH_COUNT_LIMIT 65536
#define KV_MESSAGE_SIZE 512

/* Functions return 0 or a count; failures are a negative errno. */

/* CRC-32C of `size` bytes at `data`, continuing from `seed` (0 to begin). */
uint32_t kv_checksum(uint32_t seed, const void *data, size_t size);

typedef enum kv_operation_kind {
    KV_OP_SET = 1,
    KV_OP_GET = 2,          /* into item.value, at most item.value_size bytes */
    KV_OP_EXISTS = 3,
    KV_OP_MATCH_PREFIX = 4, /* request.matched: how many leading keys exist */
    KV_OP_DELETE = 5,
    KV_OP_STAT = 6,         /* item.result_size, version, checksum, expiry_ms, flags; no value is read */
    KV_OP_PIN = 7,
    KV_OP_UNPIN = 8,
    KV_OP_FLUSH = 9         /* no items: everything acknowledged so far survives power loss if request.status is KV_OK */
} kv_operation_kind;

/* Per-key results. */
typedef enum kv_status {
    KV_OK = 0,
    KV_EXISTS = 1,          /* set with if_absent: the key is there already */
    KV_NOT_FOUND = 2,
    KV_NO_SPACE = 3,
    KV_QUOTA = 4,
    KV_TOO_LARGE = 5,       /* value above KV_VALUE_SIZE_LIMIT */
    KV_UNAVAILABLE = 6,     /* the store is offline after a device failure */
    KV_TIMEOUT = 7,
    KV_DENIED = 8,          /* read-only store */
    KV_BUFFER_TOO_SMALL = 9,/* result_size says what is needed */
    KV_CORRUPT = 10,        /* stored bytes do not match their checksum */
    KV_IO_ERROR = 11,
    KV_CANCELLED = 12,
    KV_OUTCOME_UNKNOWN = 13,/* a retried update of which the node knows no more: it may or may not have happened */
    KV_WRONG_TARGET = 14,   /* on the wire only: this node does not serve the target, or not in this chain version */
    KV_BUSY = 15,           /* on the wire only: try again a little later */
    KV_DIRTY = 16           /* on the wire only: an update of the key is under way: the chain's tail knows what is committed */
} kv_status;

#define KV_ITEM_PINNED 1

typedef struct kv_item {
    uint64_t key;           /* address */
    uint64_t value;         /* address: source of a set, target of a get */
    uint32_t key_size;
    uint32_t value_size;    /* bytes to set; room for a get */
    uint32_t result_size;   /* bytes of the object */
    int32_t status;         /* kv_status */
} kv_item;

typedef struct kv_item_stat {
    uint64_t version;
    uint64_t expiry_ms;     /* unix time, 0: never */
    uint32_t checksum;
    uint32_t flags;
} kv_item_stat;

typedef struct kv_request {
    kv_item *items;         /* caller-owned until the request is done */
    kv_item_stat *stats;    /* STAT: one for each item */
    uint32_t count;
    uint32_t operation;     /* kv_operation_kind */
    uint32_t if_absent;
    uint32_t matched;
    int32_t status;         /* of FLUSH; of other operations without values: why all of it was given up, or KV_OK */
    uint32_t flags;         /* 0; others are the core's own */
    uint64_t ttl_ms;        /* SET; 0: the store's default */
    uint64_t timeout_ms;    /* 0: the store's default */
    uint64_t tag;           /* the caller's, returned by kv_queue_reap */
    void *operation_state;  /* the core's */
} kv_request;

typedef enum kv_durability { KV_DURABILITY_MEMORY = 0, KV_DURABILITY_DISK = 1, KV_DURABILITY_SYNC = 2 } kv_durability;
typedef enum kv_eviction_mode { KV_EVICTION_NONE = 0, KV_EVICTION_CACHE = 1 } kv_eviction_mode;
typedef enum kv_driver { KV_DRIVER_AUTO = 0, KV_DRIVER_URING = 1, KV_DRIVER_THREADS = 2 } kv_driver;
typedef enum kv_open_mode { KV_OPEN_NORMAL = 0, KV_OPEN_EXISTING = 1, KV_OPEN_READ_ONLY = 2 } kv_open_mode;

typedef struct kv_store_options {
    const char *directory;     /* made when missing (KV_OPEN_NORMAL) */
    uint64_t capacity;         /* bytes of slabs; 0: as much as the file system has, grown as needed */
    uint64_t objects_max;      /* 0: no limit. Cache mode evicts beyond it; otherwise sets answer KV_QUOTA */
    uint64_t memory;           /* bytes of the DRAM tier */
    uint32_t durability;
    uint32_t eviction;
    uint32_t driver;
    uint32_t open_mode;
    uint32_t workers;          /* threads that execute asynchronous batches */
    uint32_t depth;            /* device operations in flight */
    uint64_t ttl_ms;           /* default of objects; 0: never */
    uint64_t timeout_ms;       /* default deadline of a batch */
    uint64_t scrub_bytes_per_s;/* 0: no background scrub */
} kv_store_options;

typedef struct kv_store kv_store;
typedef struct kv_queue kv_queue;

/* Open or make a store. On failure `message` (KV_MESSAGE_SIZE bytes) says what, which file, at which offset.
 * -EBUSY: another process (or this one) has it open. -ENOTSUP: other format version. -EBADMSG: corruption.
 * -EACCES, -ENOSPC, -EINVAL (bad option), -ENOENT (KV_OPEN_EXISTING and nothing there). */
int kv_store_open(const kv_store_options *options, kv_store **store, char *message);
/* Refuses new requests, waits for those in flight (at most timeout_ms, then cancels them), flushes, releases the directory. Frees the store. */
int kv_store_close(kv_store *store, uint64_t timeout_ms);
/* In a child after fork: give up the inherited descriptors without touching the files. The store must not be used again. */
void kv_store_abandon(kv_store *store);

/* Execute on the calling thread; returns when every item has its status. 0, or -EINVAL (bad request), -ESHUTDOWN
 * (closing); a flush that failed: -ETIMEDOUT, -ECANCELED, or -ENODEV when the store is offline. */
int kv_store_run(kv_store *store, kv_request *request);
/* Execute in the background; the request and what it points at stay untouched by the caller until kv_queue_reap returned its tag. */
int kv_store_submit(kv_store *store, kv_queue *queue, kv_request *request);
/* Ask for an early end: items not done become KV_CANCELLED. The request is still reaped. */
void kv_store_cancel(kv_store *store, kv_request *request);

/* Completions for one event loop; `descriptor` becomes readable (an eventfd) when there are some. A queue serves stores and clients alike. */
int kv_queue_open(kv_queue **queue, int *descriptor);
/* Tags of finished requests, at most `max`; returns how many. Clears the eventfd. */
int kv_queue_reap(kv_queue *queue, uint64_t *tags, uint32_t max);
/* Every request of the queue must have been reaped. */
void kv_queue_close(kv_queue *queue);

/* Bytes the caller will use for values often: registered with the device for direct transfer where it can be. */
int kv_store_register(kv_store *store, uint64_t address, uint64_t size);
int kv_store_unregister(kv_store *store, uint64_t address);

/* List keys: fills `buffer` with entries {u16 key_size, u16 flags, u32 size, u64 version, u64 expiry_ms, key}, returns bytes used; *cursor 0 begins,
 * and is UINT64_MAX at the end. Order is unspecified; a key present all the time is listed exactly once. */
int64_t kv_store_list(kv_store *store, uint64_t *cursor, const void *prefix, uint32_t prefix_size, void *buffer, uint64_t size);

/* Verify stored values from *cursor on, about `bytes_max` bytes of them a call; bad keys go to `buffer` as entries like kv_store_list's with the status in
 * flags. Returns bytes used in buffer; *cursor is UINT64_MAX at the end. objects and bytes count what was verified. */
int64_t kv_store_verify(kv_store *store, uint64_t *cursor, uint64_t bytes_max, void *buffer, uint64_t size, uint64_t *objects, uint64_t *bytes);

/* Empty sparse slabs now; returns how many were freed. */
int kv_store_compact(kv_store *store, uint64_t timeout_ms);
/* Write a checkpoint now. */
int kv_store_checkpoint(kv_store *store, uint64_t timeout_ms);

typedef struct kv_slab_row {
    uint32_t slab_class;
    uint32_t extent_size;   /* 0: packs */
    uint32_t slabs;
    uint32_t reserved;
    uint64_t live_count;
    uint64_t live_size;
    uint64_t free_size;
} kv_slab_row;

int kv_store_slabs(kv_store *store, kv_slab_row *rows, int rows_max);

/* Counters since open, and gauges. Sizes in bytes. */
typedef struct kv_store_statistics {
    uint64_t objects, value_size;          /* gauges: live objects and the sum of their sizes */
    uint64_t pinned_objects;
    uint64_t capacity, slab_size, slabs, slabs_free;
    uint64_t space_used, space_free, space_quarantined;
    uint64_t index_size;
    uint64_t memory_capacity, memory_used, memory_objects, memory_huge_size;
    uint64_t gets, get_hits, get_misses, get_memory_hits, sets, deletes, exists;
    uint64_t bytes_read, bytes_written;    /* by clients */
    uint64_t device_reads, device_writes, device_flushes, device_read_bytes, device_write_bytes;
    uint64_t journal_size, journal_generation, journal_groups, journal_records, sequence, sequence_durable, sequence_flushed;
    uint64_t checkpoints, checkpoint_sequence;
    uint64_t evictions, expirations, compactions, compacted_bytes;
    uint64_t corrupt_values, scrubbed_values, scrubbed_bytes, scrub_passes;
    uint64_t recovered_objects, recovered_records, recovery_cut_size, recovery_dropped, recovery_ns;
    uint64_t in_flight, offline;           /* offline: the errno that took the target offline, 0: serving */
} kv_store_statistics;

void kv_store_statistics_read(kv_store *store, kv_store_statistics *statistics);
/* Which driver and checksum code run, as JSON-free text "driver=io_uring checksum=vpclmulqdq". */
int kv_store_describe(kv_store *store, char *text, size_t size);

/* A storage node: targets on this machine, served to clients over TCP. */

#define KV_NODE_SECRET_SIZE_LIMIT 1024
#define KV_NODE_EVENT_TEXT_SIZE 232
#define KV_NODE_LATENCY_COUNT 32
#define KV_NODE_OPERATION_COUNT 10
#define KV_NODE_ERROR_COUNT 17
#define KV_NAMESPACE_SIZE_LIMIT 63

typedef enum kv_reactor_driver {
    KV_REACTOR_AUTO = 0,    /* io_uring where the system allows it and it is the faster one */
    KV_REACTOR_URING = 1,
    KV_REACTOR_EPOLL = 2
} kv_reactor_driver;

typedef struct kv_node_options {
    uint64_t node;              /* its id */
    uint32_t reactors;          /* event loops, one thread each; 0: one for each core, at most 8 */
    uint32_t reactor_driver;
    const uint8_t *secret;      /* shared with clients, proven by HMAC, never sent */
    uint32_t secret_size;       /* 0: clients need none */
    uint32_t connections_max;   /* 0: default. One more is told so and closed */
    uint32_t requests_max;      /* in flight on one connection; 0: default */
    uint64_t memory_max;        /* bytes of requests and replies under way, beyond the DRAM tiers; 0: default. Full: connections are read later */
    uint64_t stall_timeout_ms;  /* a peer that neither sends the rest of a message nor takes a reply for so long is cut; 0: default */
    uint64_t idle_timeout_ms;   /* a connection without a request for so long is closed; 0: default */
    uint64_t hello_timeout_ms;  /* from accept to the end of hello; 0: default */
    uint32_t protocol_version_max; /* speaks none above with anybody; 0: the newest */
} kv_node_options;

typedef struct kv_node kv_node;

/* `message` as in kv_store_open. The node serves nobody before kv_node_listen. */
int kv_node_open(const kv_node_options *options, kv_node **node, char *message);
/* Open a target in its directory and serve it under this number; before kv_node_listen. `workers` is ignored: reactors execute requests. */
int kv_node_add_target(kv_node *node, uint32_t target, const kv_store_options *options, char *message);
/* Listen at `host` (an address or a name) and `port` (0: the system chooses). Returns the port. May be called for several addresses. */
int kv_node_listen(kv_node *node, const char *host, uint32_t port, char *message);
/* What KV_CONTROL_ROUTING answers from now on; copied. Opaque to the core. */
int kv_node_publish_routing(kv_node *node, const void *routing, uint64_t size);
/* New connections must prove this secret from now on; size 0: none. Old ones go on. */
int kv_node_set_secret(kv_node *node, const uint8_t *secret, uint32_t size);
/* Accept nobody any more, answer what is in flight, close connections as they fall idle; returns when none is left or timeout_ms has passed (-ETIMEDOUT). */
int kv_node_drain(kv_node *node, uint64_t timeout_ms);
/* Cut the connections that are left, close the targets cleanly, free the node. */
int kv_node_close(kv_node *node, uint64_t timeout_ms);

typedef enum kv_node_event_kind {
    KV_EVENT_CONNECTED = 1,
    KV_EVENT_DISCONNECTED = 2,  /* in good order */
    KV_EVENT_REFUSED = 3,       /* hello failed: wrong secret, unknown version, replayed proof, too many connections */
    KV_EVENT_CUT_STALLED = 4,
    KV_EVENT_CUT_IDLE = 5,
    KV_EVENT_CUT_PROTOCOL = 6,  /* a message that breaks the protocol or a limit */
    KV_EVENT_CUT_RESET = 7,     /* the connection broke in the middle of something */
    KV_EVENT_TARGET_OFFLINE = 8,
    KV_EVENT_PEER_LOST = 9,     /* another node of a chain cannot be reached, or does not answer; `connection` is its target that is waited for */
    KV_EVENT_SYNCED = 10,       /* a target lacks nothing any more; `connection` is its number */
    KV_EVENT_VALUE_LOST = 11,   /* a value that nobody has whole any more was deleted; `connection` is the target's number */
    KV_EVENT_KIND_COUNT = 12
} kv_node_event_kind;

typedef struct kv_node_event {
    uint64_t time_ms;           /* unix time */
    uint32_t kind;              /* kv_node_event_kind */
    int32_t error;              /* errno or 0 */
    uint64_t connection;        /* counts up from 1 */
    char text[KV_NODE_EVENT_TEXT_SIZE]; /* "127.0.0.1:4711: the key size 2000 exceeds the limit of 1024" */
} kv_node_event;

/* Readable while there are events. When nobody takes them the oldest are dropped and counted. */
int kv_node_event_descriptor(kv_node *node);
int kv_node_take_events(kv_node *node, kv_node_event *events, int max);

/* Counters since open, and gauges, summed over reactors. Latencies from the last byte of a request to the last byte of its reply
 * given to the socket, by operation; bin i counts those below 1 us << i that no smaller bin counts. */
typedef struct kv_node_statistics {
    uint64_t connections, connections_total;
    uint64_t requests_in_flight, request_memory, lent_memory;
    uint64_t received_bytes, sent_bytes;
    uint64_t requests[KV_NODE_OPERATION_COUNT];         /* by kv_operation_kind */
    uint64_t keys[KV_NODE_OPERATION_COUNT];
    uint64_t latency[KV_NODE_OPERATION_COUNT * KV_NODE_LATENCY_COUNT];
    uint64_t latency_sum_ns[KV_NODE_OPERATION_COUNT];
    uint64_t key_statuses[KV_NODE_ERROR_COUNT];         /* answered keys by kv_status */
    uint64_t events[KV_EVENT_KIND_COUNT];               /* by kv_node_event_kind */
    uint64_t events_dropped;
    uint64_t updates_repeated;                          /* answered from an update channel without being applied again */
    uint64_t controls;
} kv_node_statistics;

void kv_node_statistics_read(kv_node *node, kv_node_statistics *statistics);

/* Chains: what routing info says of this node's targets. A node that was never told of chains serves each of its targets by itself, without a lease. */

#define KV_CHAIN_VERSION_LIMIT 8388607 /* 23 bits: see kv_version */
#define KV_CHAIN_TARGETS_LIMIT 16
#define KV_NO_SUCCESSOR 0xffffffff

typedef enum kv_chain_flag {
    KV_CHAIN_SERVES = 1,        /* answers reads, takes updates */
    KV_CHAIN_SYNCS = 2,         /* takes updates of its predecessor, and what it missed */
    KV_CHAIN_HEAD = 4,          /* the first that serves: clients send updates here */
    KV_CHAIN_TAIL = 8           /* the last that serves: it feeds a successor that syncs */
} kv_chain_flag;

typedef struct kv_chain_place {
    uint64_t chain_version;     /* 1 ... KV_CHAIN_VERSION_LIMIT */
    uint32_t target;            /* of this node */
    uint32_t chain;
    uint32_t flags;             /* kv_chain_flag; 0: in the chain, but neither serving nor syncing */
    uint32_t position;          /* 0: the head; counts serving and syncing targets */
    uint32_t successor;         /* target; who serves next, or syncs */
    uint32_t successor_node;    /* index of its node's address, or KV_NO_SUCCESSOR */
    uint32_t successor_flags;
    uint32_t reserved;
} kv_chain_place;

/* Replaces what was said before: a target that is not named serves nobody. An older routing_version than the last one is passed over. Addresses are "host:port". -EINVAL with
 * `message`: an unknown target, a version beyond the limit. Returns once new requests go by it. */
int kv_node_set_chains(kv_node *node, uint64_t routing_version, const kv_chain_place *places, uint32_t place_count,
                       const char *const *addresses, uint32_t address_count, char *message);
/* Serve until CLOCK_MONOTONIC has reached this; 0: not at all. Only a later end than before, or 0, changes anything. */
int kv_node_set_lease(kv_node *node, uint64_t end_ns);

typedef enum kv_local_state {
    KV_LOCAL_OFFLINE = 1,       /* its device has failed, or it could not follow its chain */
    KV_LOCAL_ONLINE = 2,
    KV_LOCAL_UPTODATE = 3       /* it lacks nothing as of chain_version: it serves, or synced to the end */
} kv_local_state;

typedef struct kv_chain_state {
    uint64_t chain_version;     /* that the target goes by; 0: in no chain */
    uint64_t objects, value_size, capacity, space_used, space_free;
    uint64_t updates_in_flight, updates_total;
    uint64_t resync_compared, resync_sent, resync_sent_bytes; /* of the run that feeds its successor, or the last one */
    uint32_t target;
    uint32_t local;             /* kv_local_state */
    int32_t error;              /* errno of OFFLINE */
    uint32_t resyncing;         /* 1: it feeds its successor now */
    uint32_t damaged;           /* objects known to have values that cannot be read */
    uint32_t settled;           /* 1: nothing that came by an older chain version is under way here */
    uint64_t io_oldest_ms;      /* the oldest device operation that is out */
    uint64_t io_silent_ms;      /* device operations are out, and for so long none has ended */
    uint64_t move;              /* id of the move that it was given last; 0: none */
    uint64_t move_objects;      /* that were sent, or deleted */
    uint32_t move_state;        /* kv_move_state */
    uint64_t resync_vain_ms;    /* for so long nothing that it feeds its successor has found room there */
} kv_chain_state;

/* Slots on their way from one chain to another: the tail of the one goes through what it holds, and sends it to the head of the other. */

typedef enum kv_move_flag {
    KV_MOVE_DELETE = 1,         /* nothing is sent: what is in these slots is deleted at the other end, which is the head of its own chain */
    KV_MOVE_LAST = 2            /* no update of these slots comes any more: DONE is said when everything was sent */
} kv_move_flag;

typedef enum kv_move_state {
    KV_MOVE_WORKING = 1,
    KV_MOVE_READY = 2,          /* all was sent once; what changes is sent as it changes */
    KV_MOVE_DONE = 3,
    KV_MOVE_FAILED = 4          /* too much changed meanwhile, or a value cannot be read: under another id it begins anew */
} kv_move_state;

typedef struct kv_move {
    uint64_t id;                /* from 1; another one begins anew */
    uint64_t chain_version;     /* of the chain that it goes to */
    uint32_t source;            /* target of this node */
    uint32_t target;            /* that it goes to */
    uint32_t node;              /* index of its node's address */
    uint32_t flags;             /* kv_move_flag */
    uint32_t slot_first;        /* index of its first slot among those that are given */
    uint32_t slot_count;
    uint32_t table_size;        /* slots of the table, a power of two */
    uint32_t reserved;
} kv_move;

/* Every target of the node; returns how many there are. Device operations are watched by it: call it several times a second. */
int kv_node_chain_states(kv_node *node, kv_chain_state *states, int max);
/* Replaces what was said before: what is not named ends where it is. -EINVAL with `message`. */
int kv_node_set_moves(kv_node *node, const kv_move *moves, uint32_t move_count, const uint32_t *slots, uint32_t slot_count, const char *const *addresses,
                      uint32_t address_count, char *message);
/* How many bytes a second a target sends at most to bring its successor up to date, and as many to another chain; 0: as many as go. */
int kv_node_set_resync_rate(kv_node *node, uint64_t bytes_per_s);
/* Objects of a target whose values could not be read, as entries of KV_CONTROL_LIST_STORED; those that do not fit are left out. Returns bytes used; -ENOENT: no such target. */
int64_t kv_node_damaged(kv_node *node, uint32_t target, void *buffer, uint64_t size);
/* Replace the value of one of them, by its stored key, with what another target of the chain holds; blocks. -ENOENT: it is not damaged any more. -EBADMSG: these are not the bytes that it
 * was set with. -ENOSPC, -EIO. */
int kv_node_repair(kv_node *node, uint32_t target, const void *key, uint32_t key_size, const void *value, uint32_t value_size);
/* -ENOENT: no such target. */
int kv_node_target_statistics(kv_node *node, uint32_t target, kv_store_statistics *statistics);
/* "reactor=epoll reactors=2 checksum=vpclmulqdq" */
int kv_node_describe(kv_node *node, char *text, size_t size);

/* A client of storage nodes. */

typedef struct kv_client_options {
    const char *tenant;         /* NULL: "default" */
    const char *name_space;     /* NULL: "default" */
    const uint8_t *secret;
    uint32_t secret_size;       /* 0: none; a node that wants one refuses */
    const uint8_t *token;       /* sent in hello as it is */
    uint32_t token_size;
    uint32_t lanes;             /* threads for asynchronous batches, each with its own connections; 0: default */
    uint32_t connections_max;   /* to one node, blocking callers included; 0: default. Beyond it callers wait */
    uint32_t unverified;        /* 1: checksums of values that arrive are not checked */
    uint32_t reactor_driver;    /* of the lanes */
    uint64_t timeout_ms;        /* default deadline of a batch; 0: 30 s */
    uint64_t connect_timeout_ms;/* of one attempt, hello included; 0: default */
} kv_client_options;

typedef struct kv_client kv_client;

/* Does no I/O. -EINVAL with `message`. */
int kv_client_open(const kv_client_options *options, kv_client **client, char *message);
/* Where keys are. Nodes: addresses as "host:port". Slot i belongs to target slot_targets[i] on node slot_nodes[i]; slot_count is a power of two.
 * May be called again with a newer version while batches are in flight: they go on by what they began with, and their retries by this. */
int kv_client_route(kv_client *client, uint64_t routing_version, const char *const *nodes, uint32_t node_count,
                    const uint32_t *slot_nodes, const uint32_t *slot_targets, uint32_t slot_count, char *message);

/* A target that serves, and its node's address by index. */
typedef struct kv_chain_member {
    uint32_t node;
    uint32_t target;
} kv_chain_member;

typedef struct kv_chain_route {
    uint64_t chain_version;
    uint32_t member_first;      /* index of its head among the members; the last one is its tail */
    uint32_t member_count;      /* 0: nobody serves now: parts wait for newer routing info until their deadline */
} kv_chain_route;

/* The same with chains: slot i belongs to chains[slot_chains[i]]. Updates go to the head, reads to any member. Requests name the chain version; a node that goes by another one
 * makes them wait for newer routing info. A chain keeps its index over routing versions: an update that may have happened is repeated only to the chain that it was sent to, and has an
 * unknown outcome once its slot belongs to another. -EINVAL with `message`. */
int kv_client_route_chains(kv_client *client, uint64_t routing_version, const char *const *nodes, uint32_t node_count,
                           const kv_chain_member *members, uint32_t member_count, const kv_chain_route *chains, uint32_t chain_count,
                           const uint32_t *slot_chains, uint32_t slot_count, char *message);
/* What the client could not reach since it was last asked, and whether newer routing info is wanted: addresses, newline-separated, into `unreachable` (`size` bytes, ends with 0; what does not fit
 * comes with the next call). Returns a count, which grows whenever a part was refused for its chain version or found a chain without members. `descriptor` (may be NULL) is an eventfd that becomes
 * readable on trouble and is the client's; taking what there is makes it unreadable. With `size` 0 nothing is taken. */
int64_t kv_client_trouble(kv_client *client, char *unreachable, uint32_t size, int *descriptor);
/* Refuses new requests, waits for those in flight (at most timeout_ms, then cancels them). Frees the client; -ETIMEDOUT: it could not. */
int kv_client_close(kv_client *client, uint64_t timeout_ms);
/* As kv_store_abandon. */
void kv_client_abandon(kv_client *client);

/* As kv_store_run, kv_store_submit, kv_store_cancel; -ENOTCONN before the first kv_client_route. A batch is cut by target, its parts travel side by side, and every key gets its own status:
 * KV_UNAVAILABLE (no connection within the deadline), KV_OUTCOME_UNKNOWN (of an update; it may or may not have happened), KV_TIMEOUT, KV_CORRUPT (wrong checksum on arrival, after one retry). */
int kv_client_run(kv_client *client, kv_request *request);
int kv_client_submit(kv_client *client, kv_queue *queue, kv_request *request);
void kv_client_cancel(kv_client *client, kv_request *request);
/* Why the last connection failed, for people: "127.0.0.1:4711: the secret is wrong"; empty when none has. `message`: KV_MESSAGE_SIZE bytes. */
void kv_client_explain(kv_client *client, char *message);

typedef enum kv_control_kind {
    KV_CONTROL_ROUTING = 1,     /* -> what the node published */
    KV_CONTROL_STATISTICS = 2,  /* -> kv_node_statistics, then kv_store_statistics of `target`, little-endian u64s in their order */
    KV_CONTROL_LIST = 3,        /* u64 cursor, u32 size, prefix -> u64 cursor, entries as of kv_store_list, keys without the namespace */
    KV_CONTROL_VERIFY = 4,      /* u64 cursor, u64 bytes_max, u32 size -> u64 cursor, u64 objects, u64 bytes, entries */
    KV_CONTROL_SLABS = 5,       /* -> kv_slab_row as in memory, little-endian */
    KV_CONTROL_COMPACT = 6,     /* -> u32 slabs freed */
    KV_CONTROL_CHECKPOINT = 7,
    KV_CONTROL_FLUSH = 8,
    KV_CONTROL_DESCRIBE = 9,    /* -> text of kv_node_describe, a space, text of kv_store_describe */
    KV_CONTROL_LIST_STORED = 10, /* nodes and checks of whole clusters: u64 cursor, u32 size -> u64 cursor, entries {u16 key_size, u16 flags, u32 size, u32 checksum, u64 version, u64 expiry_ms,
                                 * stored key: tenant and namespace before the key}. Behind the size: u64 seed, u32 bits, set of 1 << bits parts of the keys: only of those */
    KV_CONTROL_DIGEST = 11      /* nodes: u64 cursor, u64 seed, u32 bits -> u64 cursor, u64 sum of each of 1 << bits parts of the keys, over what lies from the one cursor to the other */
} kv_control_kind;

#define KV_CONTROL_SIZE_LIMIT 9437184

/* One control request to a target of a node, on the calling thread. `node` is "host:port". Returns bytes put into `reply`, or what the node answered as a negative errno
 * (-EACCES, -ENODEV: the target is offline, -ENOENT: no such target, -EMSGSIZE: the reply does not fit), or -ETIMEDOUT, -ECONNREFUSED ... with `message`. */
int64_t kv_client_control(kv_client *client, const char *node, uint32_t target, uint32_t kind, const void *body, uint32_t body_size,
                          void *reply, uint64_t reply_size, uint64_t timeout_ms, char *message);

typedef struct kv_client_statistics {
    uint64_t connections, connects, connect_failures, reconnects;
    uint64_t batches, parts, retries, timeouts;
    uint64_t sent_bytes, received_bytes, corrupt_values;
    uint64_t in_flight;
} kv_client_statistics;

void kv_client_statistics_read(kv_client *client, kv_client_statistics *statistics);
