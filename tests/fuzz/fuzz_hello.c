/* Fuzzes both ends of hello with somebody in the middle, who passes on, alters, cuts, replays and
 * makes up messages between two clients and two nodes, but does not know the secrets. Whatever he
 * does, the ends answer without a fault, and whoever has a secret is done only with an end that has
 * the same secret and saw the same hello.
 *
 *   0         1                    a command each
 *   ┌─────────┬─────────┬─────────┬─────────┐
 *   │ secrets │ verb,   │ operand,│ ...     │
 *   │ u8      │ end, u8 │ u8 or   │         │
 *   │         │         │ u16     │         │
 *   └─────────┴─────────┴─────────┴─────────┘
 *   secrets: two bits for each end: none, A, B, A
 *   the message in hand is what was said last, or what a command made of it */

#include "bytes/endian.h"
#include "protocol/hello.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define END_COUNT 4u
#define SAID_COUNT_MAX 24u
#define COMMAND_COUNT_MAX 64u
#define SECRET_SIZE 9u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum verb {
    VERB_GIVE,    /* the message in hand to an end, which may answer */
    VERB_TAKE,    /* something that was said before */
    VERB_FLIP,    /* u16 offset in the columns, u8 bits */
    VERB_PLACE,   /* u8 offset near the beginning of the columns, u8 byte */
    VERB_RESIZE,  /* u16 size of the columns */
    VERB_RELABEL, /* u8 kind */
    VERB_HEAD,    /* u8 field, u8 value */
    VERB_DAMAGE,  /* no repair of the columns' CRC any more */
    VERB_COUNT
} verb;

typedef struct message {
    kv_message_head head;
    bool damaged;
    uint8_t columns[KV_MESSAGE_HELLO_SIZE_MAX];
} message;

typedef struct script {
    const uint8_t *at;
    const uint8_t *end;
} script;

static kv_hello ends[END_COUNT]; /* client, node, client, node */
static message said[SAID_COUNT_MAX], hand;
static uint32_t said_count;

static uint32_t script_next(script *commands, int size)
{
    uint32_t value = 0;

    for (int i = 0; i < size; i++)
        value |= (uint32_t)(commands->at < commands->end ? *commands->at++ : 0) << 8 * i;
    return value;
}

/* Only what there is of the columns: most messages are small, and inputs should be many. */
static void message_copy(message *target, const message *source)
{
    target->head = source->head;
    target->damaged = source->damaged;
    memcpy(target->columns, source->columns, source->head.columns_size);
}

/* Whatever an end says is a whole message that decodes. */
static void hear(const uint8_t *bytes, int size)
{
    message *heard = &said[said_count % SAID_COUNT_MAX];

    assert(size > (int)KV_MESSAGE_HEAD_SIZE && size <= (int)KV_HELLO_MESSAGE_SIZE_MAX);
    assert(kv_message_decode(bytes, &heard->head) == 0);
    assert(heard->head.columns_size == (uint32_t)size - KV_MESSAGE_HEAD_SIZE);
    assert(kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, heard->head.columns_size) == 0);
    memcpy(heard->columns, bytes + KV_MESSAGE_HEAD_SIZE, heard->head.columns_size);
    heard->damaged = false;
    said_count++;
    message_copy(&hand, heard);
}

static const uint8_t *secret_of(unsigned choice)
{
    static const uint8_t secrets[2][SECRET_SIZE + 1] = {"secret-A!", "secret-B!"};

    return choice == 0 ? NULL : secrets[choice == 2];
}

static void ends_begin(unsigned secrets)
{
    static const kv_hello_grant grant = {.rights = 7,
                                         .requests_max = 64,
                                         .count_max = 4096,
                                         .columns_size_max = 65536,
                                         .values_size_max = 1 << 20,
                                         .stall_timeout_ms = 10000,
                                         .node = 7,
                                         .run = 0x1122334455667788};
    static const kv_hello_names names = {.tenant = "acme",
                                         .name_space = "kv-cache",
                                         .client = {1, 2, 3},
                                         .token = "token",
                                         .token_size = 5};
    static uint8_t out[KV_HELLO_MESSAGE_SIZE_MAX];

    said_count = 0;
    for (unsigned i = 0; i < END_COUNT; i++) {
        const uint8_t *secret = secret_of(secrets >> 2 * i & 3);
        uint32_t secret_size = secret ? SECRET_SIZE : 0;
        uint8_t nonce[KV_NONCE_SIZE];

        memset(nonce, (int)(0x10 + i), sizeof(nonce));
        if (i % 2)
            kv_hello_begin_node(&ends[i], &grant, secret, secret_size, nonce);
        else
            hear(out, kv_hello_begin_client(&ends[i], &names, secret, secret_size, nonce, out));
    }
}

static bool same_hello(const kv_hello *a, const kv_hello *b)
{
    kv_sha256 left = a->transcript, right = b->transcript;
    uint8_t left_digest[KV_SHA256_SIZE], right_digest[KV_SHA256_SIZE];

    kv_sha256_end(&left, left_digest);
    kv_sha256_end(&right, right_digest);
    return a->secret == b->secret && memcmp(left_digest, right_digest, KV_SHA256_SIZE) == 0;
}

/* Somebody of the other kind has the same secret and saw the same hello. */
static void end_check(const kv_hello *end)
{
    bool proven = end->secret_size == 0;

    assert(end->state == KV_HELLO_WAITS || end->state == KV_HELLO_DONE ||
           end->state == KV_HELLO_FAILED);
    assert((end->state == KV_HELLO_FAILED) == (end->error < 0));
    assert((end->state == KV_HELLO_FAILED) == (end->reason[0] != '\0'));
    if (end->state != KV_HELLO_DONE)
        return;
    assert(end->version >= KV_PROTOCOL_VERSION_MIN && end->version <= KV_PROTOCOL_VERSION_MAX);
    assert(kv_hello_name_legal(end->names.tenant, strlen(end->names.tenant)));
    assert(end->names.token_size <= KV_TOKEN_SIZE_MAX);
    for (unsigned i = 0; i < END_COUNT && !proven; i++) {
        const kv_hello *other = &ends[i];

        if (other->node == end->node || !same_hello(end, other))
            continue;
        assert(memcmp(&end->names, &other->names, sizeof(end->names)) == 0);
        if (!end->node)
            assert(memcmp(&end->grant, &other->grant, sizeof(end->grant)) == 0);
        proven = end->node || other->state == KV_HELLO_DONE;
    }
    assert(proven);
}

/* From memory of exactly its size. An end that is over takes nothing, as its connection is closed. */
static void hand_give(kv_hello *end)
{
    static uint8_t out[KV_HELLO_MESSAGE_SIZE_MAX];
    size_t size = KV_MESSAGE_HEAD_SIZE + (size_t)hand.head.columns_size;
    kv_message_head head;
    uint8_t *bytes;
    int answer;

    if (end->state != KV_HELLO_WAITS)
        return;
    bytes = malloc(size);
    assert(bytes != NULL);
    if (!hand.damaged)
        kv_message_seal(hand.columns, hand.head.columns_size);
    kv_message_encode(&hand.head, bytes);
    memcpy(bytes + KV_MESSAGE_HEAD_SIZE, hand.columns, hand.head.columns_size);
    assert(kv_message_decode(bytes, &head) == 0);
    answer = kv_hello_step(end, &head, bytes, out);
    free(bytes);
    if (answer > 0)
        hear(out, answer);
    assert(answer >= 0);
    assert(answer > 0 || !end->node);
    end_check(end);
}

static void hand_change(verb change, script *commands)
{
    uint32_t at;

    switch (change) {
    case VERB_FLIP:
        at = script_next(commands, 2) % hand.head.columns_size;
        hand.columns[at] ^= (uint8_t)script_next(commands, 1);
        break;
    case VERB_PLACE:
        at = script_next(commands, 1) % hand.head.columns_size;
        hand.columns[at] = (uint8_t)script_next(commands, 1);
        break;
    case VERB_RESIZE:
        at = 4 + script_next(commands, 2) % (KV_MESSAGE_HELLO_SIZE_MAX - 3);
        if (at > hand.head.columns_size)
            memset(hand.columns + hand.head.columns_size, 0, at - hand.head.columns_size);
        hand.head.columns_size = at;
        break;
    case VERB_RELABEL:
        hand.head.kind = (uint8_t)(KV_MESSAGE_HELLO + script_next(commands, 1) % 5);
        break;
    case VERB_HEAD:
        if (script_next(commands, 1) % 2)
            hand.head.flags = (uint16_t)script_next(commands, 1);
        else
            hand.head.request = script_next(commands, 1);
        break;
    default:
        hand.damaged = true;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    script commands = {data, data + size};

    ends_begin(script_next(&commands, 1));
    for (unsigned i = 0; i < COMMAND_COUNT_MAX && commands.at < commands.end; i++) {
        uint32_t command = script_next(&commands, 1);
        verb next = (verb)(command % VERB_COUNT);
        unsigned which = command / VERB_COUNT;
        uint32_t kept = said_count < SAID_COUNT_MAX ? said_count : SAID_COUNT_MAX;

        if (next == VERB_GIVE)
            hand_give(&ends[which % END_COUNT]);
        else if (next == VERB_TAKE)
            message_copy(&hand, &said[which % kept]);
        else
            hand_change(next, &commands);
    }
    return 0;
}
