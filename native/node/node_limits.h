/* Every limit and default of a storage node, in one place. Sizes in bytes. */
#ifndef KV_NODE_LIMITS_H
#define KV_NODE_LIMITS_H

#include "protocol/hello.h"

#define KV_NODE_TARGETS_MAX 64u
#define KV_NODE_LISTENERS_MAX 16u
#define KV_NODE_REACTORS_MAX 64u
#define KV_NODE_REACTORS_DEFAULT_MAX 8u
#define KV_NODE_BACKLOG 4096

#define KV_NODE_CONNECTIONS_DEFAULT 16384u
#define KV_NODE_REFUSED_MAX 256u /* connections at a time that are told why, beyond connections_max */
#define KV_NODE_REQUESTS_DEFAULT 64u
#define KV_NODE_REQUESTS_MAX 4096u
#define KV_NODE_MEMORY_DEFAULT (32ull << 20)
#define KV_NODE_MEMORY_LOOP_MIN (4ull << 20) /* of each loop, so that the largest request fits */
#define KV_NODE_STALL_TIMEOUT_MS_DEFAULT 10000u
#define KV_NODE_IDLE_TIMEOUT_MS_DEFAULT 900000u
#define KV_NODE_HELLO_TIMEOUT_MS_DEFAULT 5000u
#define KV_NODE_REQUEST_TIMEOUT_MS_DEFAULT 30000u
#define KV_NODE_REQUEST_TIMEOUT_MS_MAX 3600000u
#define KV_NODE_WATCH_MS_MAX 1000u /* how late a stalled or idle connection may be noticed */

/* Receiving. A connection owns a small buffer; a message that does not fit it gets a larger one. */
#define KV_NODE_BUFFER_SMALL_SIZE 4096u
#define KV_NODE_BUFFER_LARGE_SIZE 65536u
#define KV_NODE_PROGRESS_SIZE 65536u  /* a message moves on when so much of it arrived, or its end */
#define KV_NODE_ROUNDS_MAX 8u         /* receives, or sends, of one connection in one turn */

/* Sending. */
#define KV_NODE_REPLY_VALUES_SIZE (1u << 20) /* of one reply, unless one value is larger */
#define KV_NODE_REPLY_ITEMS_MAX 480u         /* of one reply: the widest columns then fit the window's bytes */
#define KV_NODE_WINDOW_BYTES 17408u
#define KV_NODE_WINDOW_REPLIES 64u

/* The DRAM tier's bytes that replies may hold. */
#define KV_NODE_LENT_CONNECTION_MAX (32ull << 20)
#define KV_NODE_LENT_CONNECTION_SHARE 4u /* of the smallest tier, at most */
#define KV_NODE_LENT_SHARE 2u            /* of the tiers together: beyond it, one request of a connection at a time */
#define KV_NODE_LENT_REQUEST_MAX (16ull << 20) /* what one request is taken to hold at most */

/* Chains. What waits for a place further down a chain takes memory of that place's own pool, so
 * that nodes never wait for each other in a circle. */
#define KV_NODE_PLACES 3u              /* 1, 2, 3 and on */
#define KV_NODE_POOLS (1u + 2u * KV_NODE_PLACES) /* of a loop: clients', forwards to places, and evictions to places */
#define KV_NODE_FORWARD_MEMORY (8ull << 20) /* of such a pool; the largest forward goes in alone */
#define KV_NODE_RETAINED_SHARE 2u      /* of a target's tier: values that wait for the successor */
#define KV_NODE_SPACE_MARGIN (256ull << 20) /* with less free space updates are careful */
#define KV_NODE_OBJECTS_MARGIN 65536u  /* the same for objects below a limit of theirs */
#define KV_NODE_SPACE_AGE_MS 10u       /* how old the figure for free space may be */
#define KV_NODE_APPLY_TRIES 500u      /* of deletes and pins that find no room in the journal, */
#define KV_NODE_APPLY_PAUSE_MS 10u    /* so often: a checkpoint makes some */
#define KV_NODE_REPLICA_PLACES 4096u
#define KV_NODE_STRANDED_MS 2000u      /* a request this old waits for nothing good at a target that left its chain */

/* Cache mode of a chain. Space is evicted ahead of need, so what is on its way may take a part of
 * it only: the rest can always be evicted. */
#define KV_NODE_RETAINED_SPACE_SHARE 4u /* of a target's space: values that wait for the successor */
#define KV_NODE_CACHE_MARGIN_SHARE 256u /* of the space: with less that is free updates are careful */
#define KV_NODE_EVICT_BATCH_COUNT 256u
#define KV_NODE_EVICT_KEYS_SIZE 32768u
#define KV_NODE_EVICT_IN_FLIGHT 4u      /* batches */
#define KV_NODE_EVICT_LOOK_MS 10u       /* between looks, and without a word of the successor, */
#define KV_NODE_EVICT_IDLE_MS 250u      /* while nothing is lacking, waits, or is under way: */
#define KV_NODE_EVICT_LACK_MS 1000u     /* something is lacking for so long after it was so */
#define KV_NODE_EVICT_VAIN_MS 20u       /* after nothing was found that may go */
#define KV_NODE_SPACE_WAIT_MS 10000u    /* for space, while none becomes free */
#define KV_NODE_COPY_WAIT_MS 20u        /* the same of a copy for a syncing target: it comes again */

/* A connection to another node of a chain. */
#define KV_NODE_PEER_IN_FLIGHT 64u
#define KV_NODE_PEER_BUFFER_SIZE 16384u
#define KV_NODE_PEER_SEND_SIZE (512u << 10) /* messages are put into one system call until so much */
#define KV_NODE_PEER_CONNECT_MS 2000u  /* of one attempt, hello included */
#define KV_NODE_PEER_RESOLVE_MS 5u     /* between looks at a name that is being looked up */
#define KV_NODE_PEER_BACKOFF_FIRST_MS 10u
#define KV_NODE_PEER_BACKOFF_MAX_MS 500u
#define KV_NODE_PEER_PAUSE_FIRST_MS 2u /* after a refusal that time heals */
#define KV_NODE_PEER_PAUSE_MAX_MS 20u
#define KV_NODE_PEER_SILENCE_MS 2000u  /* with messages under way: it is told, and then cut */
#define KV_NODE_PEER_SILENCE_CUT_MS 10000u

/* Resync. */
#define KV_NODE_RESYNC_PAGE_SIZE 65536u
#define KV_NODE_RESYNC_PAGES_A_TURN 4u /* of own objects, so that others have their turn */
#define KV_NODE_RESYNC_COMPARE_COUNT 256u
#define KV_NODE_RESYNC_BATCH_COUNT 64u
#define KV_NODE_RESYNC_BATCH_SIZE (1u << 20) /* of values, unless one is larger */
#define KV_NODE_RESYNC_IN_FLIGHT 8u    /* batches */
#define KV_NODE_RESYNC_RATE_DEFAULT (256ull << 20) /* bytes a second */
#define KV_NODE_RESYNC_FAILED_MS 100u  /* before it begins anew for another reason than the chain */
#define KV_NODE_RESYNC_PAUSE_MS 20u    /* before a look at what was in the way */
#define KV_NODE_RESYNC_KEPT_MS 20u     /* before what found no room is tried again */
#define KV_NODE_RESYNC_KEPT_DOUBLED_MAX 6u /* the same, as long as nothing finds room: twice each time */
#define KV_NODE_RESYNC_CORRUPT_MS 250u /* before what is corrupt here is tried again */
#define KV_NODE_RESYNC_CORRUPT_TRIES 4u

/* Slots that move to another chain. */
#define KV_NODE_MOVE_PAUSE_MS 5u      /* between looks for what has changed */
#define KV_NODE_MOVE_REFUSED_MS 500u  /* before what found no room is sent again */
#define KV_NODE_MOVE_NOTES_MAX 65536u /* keys that have changed and wait to be sent */
#define KV_NODE_MOVE_NOTES_READY 256u /* so few are sent in no time */

/* Free blocks that a loop keeps. */
#define KV_BLOCKS_CACHE_SIZE_MAX (2ull << 20)

#define KV_NODE_CONTROLS_MAX 64u              /* waiting, running, or with a reply on its way */
#define KV_NODE_CONTROL_MEMORY_MAX (12u << 20) /* of their replies */
#define KV_NODE_EVENTS_MAX 1024u

#define KV_NODE_CHANNEL_CLIENTS_MAX 4096u
#define KV_NODE_CHANNELS_PER_CLIENT_MAX 256u
#define KV_NODE_CHANNEL_MEMORY_MAX (4ull << 20)

/* Tenant and namespace before a key, each with its size. */
#define KV_NODE_PREFIX_SIZE_MAX (2u + 2u * KV_NAME_SIZE_MAX)

_Static_assert(KV_NODE_BUFFER_SMALL_SIZE >= KV_MESSAGE_HEAD_SIZE, "a head fits any buffer");
_Static_assert(KV_NODE_CONTROL_MEMORY_MAX >= KV_CONTROL_SIZE_LIMIT,
               "the largest control reply fits");
_Static_assert(KV_NODE_PEER_BUFFER_SIZE >= KV_HELLO_MESSAGE_SIZE_MAX, "any hello message fits");
_Static_assert(KV_NODE_EVICT_KEYS_SIZE >= 2 + KV_KEY_SIZE_LIMIT + KV_NODE_PREFIX_SIZE_MAX,
               "any stored key fits");
_Static_assert(KV_NODE_WINDOW_BYTES >= KV_HELLO_MESSAGE_SIZE_MAX,
               "any hello message fits a window");

#endif
