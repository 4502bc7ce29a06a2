/* Every limit of the client, in one place. Sizes in bytes. */
#ifndef KV_CLIENT_LIMITS_H
#define KV_CLIENT_LIMITS_H

#include "protocol/message.h"

#define KV_CLIENT_LANES_DEFAULT 2u
#define KV_CLIENT_LANES_MAX 64u
#define KV_CLIENT_CONNECTIONS_DEFAULT 64u
#define KV_CLIENT_CONNECTIONS_MIN 2u /* one for blocking calls, one for asynchronous batches */
#define KV_CLIENT_CONNECTIONS_MAX 4096u
#define KV_CLIENT_ENDPOINTS_MAX 16384u    /* node addresses that one client has ever heard of */
#define KV_CLIENT_ADDRESSES_MAX 8u        /* that the name of a node stands for */
#define KV_CLIENT_NODE_NAME_SIZE_MAX 300u /* "host:port" */
#define KV_CLIENT_SECRET_SIZE_MAX 1024u

#define KV_CLIENT_TIMEOUT_MS_DEFAULT 30000u
#define KV_CLIENT_TIMEOUT_MS_MAX 86400000u
#define KV_CLIENT_CONNECT_TIMEOUT_MS_DEFAULT 3000u
#define KV_CLIENT_CONNECT_SLOW_MS                                                                  \
    100u /* after so long in an attempt to connect, reads go to another member of their chain */
#define KV_CLIENT_CLOSE_GRACE_MS 1000u /* for cancelled batches, when closing */
#define KV_CLIENT_IDLE_CHECK_MS                                                                    \
    1000u /* a connection unused for so long is looked at before an update is trusted to it */
#define KV_CLIENT_SILENCE_MS                                                                       \
    3000u /* a node that says nothing for so long while a deadline passes is given up */
#define KV_CLIENT_READ_SILENCE_MS                                                                  \
    50u /* after so long, or so many times the usual, without a word of its node a read is repeated */
#define KV_CLIENT_READ_SILENCE_FACTOR 8u   /* at another member of its chain */
#define KV_CLIENT_READ_MOVES_COUNTED 4u    /* each of them doubles the time */
#define KV_CLIENT_STUCK_MS                                                                         \
    300u /* a node that stops in the middle of a value for so long loses its connection */
#define KV_CLIENT_CANCEL_CHECK_MS                                                                  \
    50u /* how late a blocking call may notice that it was cancelled */
#define KV_CLIENT_RESOLVE_PAUSE_MS 5u  /* between looks at a name on its way */
#define KV_CLIENT_RESOLVE_AGE_MS 1000u /* a name is not resolved again before */

#define KV_CLIENT_IN_FLIGHT_MAX 64u /* requests of one connection */
#define KV_CLIENT_CHANNELS_MAX                                                                     \
    128u /* update channels of a client: half of what nodes keep of it (node_limits.h) */
#define KV_CLIENT_SET_PART_SIZE                                                                    \
    (1u << 20) /* of values: so that checksums, socket and node overlap */
#define KV_CLIENT_GET_PART_SIZE                                                                    \
    (8u << 20) /* of room: the node answers such a request piece by piece */
#define KV_CLIENT_GET_PART_SIZE_SPREAD                                                             \
    (2u << 20) /* the same where a chain has several members to read from side by side */
#define KV_CLIENT_SEND_SIZE                                                                        \
    (256u << 10) /* parts are put into one system call until it sends so much */
#define KV_CLIENT_BUFFER_SIZE (64u << 10) /* of a connection: what arrives beside values */
#define KV_CLIENT_BUFFER_SIZE_MAX                                                                  \
    (KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_COLUMNS_SIZE_MAX + KV_CLIENT_AHEAD_SIZE)
#define KV_CLIENT_AHEAD_SIZE                                                                       \
    4096u /* received together with a value: heads and columns of what follows */
#define KV_CLIENT_RECEIVE_SIZE                                                                     \
    (512u << 10) /* of values, in one system call: still in the cache when they are verified */
#define KV_CLIENT_SCRATCH_SIZE (256u << 10) /* where values go that nobody waits for any more */

#define KV_CLIENT_BACKOFF_FIRST_MS                                                                 \
    10u /* between attempts to connect; the very first one is made at once */
#define KV_CLIENT_BACKOFF_MAX_MS 1000u
#define KV_CLIENT_PAUSE_FIRST_MS                                                                   \
    2u /* before a request is sent again that a node was too busy for */
#define KV_CLIENT_PAUSE_MAX_MS 100u
#define KV_CLIENT_REFUSALS_MAX 3u /* in a row; then those who wait are told */
#define KV_CLIENT_CHANNEL_PAUSE_MS 1u /* between looks for a free update channel */

#define KV_CLIENT_ROUTING_CHECK_MS                                                                 \
    5u /* how late a blocking call that had trouble may notice newer routing info */
#define KV_CLIENT_DEPARTED_SILENCE_MS                                                              \
    100u /* a node that has left a chain and says nothing for so long is given up */
#define KV_CLIENT_AVOID_FIRST_MS                                                                   \
    50u /* reads go elsewhere after a node was not reached; doubles with each failure */
#define KV_CLIENT_AVOID_MAX_MS 2000u
#define KV_CLIENT_LATENCY_HALF_MS 250u /* half of what is known of an idle node is forgotten */
#define KV_CLIENT_LATENCY_FIRST_NS 100000u /* of a node that has not answered yet */
#define KV_CLIENT_LOAD_UNIT_SIZE (64u << 10) /* of values, that weigh as much as a message */

_Static_assert(KV_CLIENT_CHANNELS_MAX >= 2 * KV_CLIENT_IN_FLIGHT_MAX,
               "one connection comes to the channels that it can have in flight");
_Static_assert((KV_CLIENT_CHANNELS_MAX & (KV_CLIENT_CHANNELS_MAX - 1)) == 0,
               "numbers of channels keep their place when they wrap");
_Static_assert(KV_CLIENT_GET_PART_SIZE_SPREAD <= KV_CLIENT_GET_PART_SIZE, "a part is a message");
_Static_assert(KV_CLIENT_SET_PART_SIZE <= KV_MESSAGE_VALUES_SIZE_MAX, "a part is a message");
_Static_assert(KV_CLIENT_GET_PART_SIZE <= KV_MESSAGE_VALUES_SIZE_MAX, "a part is a message");
_Static_assert(KV_CLIENT_BUFFER_SIZE >= 2 * KV_CLIENT_AHEAD_SIZE, "there is room ahead");

#endif
