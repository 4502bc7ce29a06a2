/* Control requests: what operators ask of a node. They may block, so one thread of the node
 * serves them, one after another; a connection has at most one at a time, and all together hold
 * a bounded amount of memory.
 *
 *   loop ──queue──► control thread ──mail──► loop ──reply sent──► freed
 *
 * The connection lives until the mail has come; a control that nobody waits for any more is
 * freed then. */

#include "node/node_state.h"

#include "bytes/endian.h"
#include "node/stored.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_HEAD_SIZE 24u /* of kv_store_list: sizes and times before the key */
#define LIST_HEAD_SIZE 12u    /* cursor and size, before the prefix */
#define VERIFY_BODY_SIZE 20u
#define CONTROL_HEAD_SIZE 24u /* before the entries of a reply, at most */
#define SLAB_ROWS_MAX 1024
#define CONTROL_SMALL_SIZE 65536u /* room for the reply of what does not say how much it wants */

typedef enum control_stage {
    CONTROL_QUEUED = 0,
    CONTROL_REPLIES = 1, /* the mail has come */
    CONTROL_ABANDONED = 2
} control_stage;

struct kv_control {
    kv_list link;
    kv_mail mail;
    kv_session *session;
    control_stage stage;   /* the loop's */
    uint64_t id;
    uint32_t kind;
    uint32_t target;
    uint32_t prefix_size;
    uint8_t prefix[KV_NODE_PREFIX_SIZE_MAX];
    uint32_t body_size;
    uint8_t *body;
    uint32_t reply_room;   /* reserved; 0: not counted */
    uint8_t *reply;
    kv_routing *routing;   /* instead of a reply of its own */
    int64_t result;        /* bytes of the reply, or a negative errno */
};

static void control_free(kv_control *control)
{
    kv_controls *controls = &control->session->loop->node->controls;

    if (control->reply_room > 0) {
        pthread_mutex_lock(&controls->mutex);
        assert(controls->count > 0 && controls->memory >= control->reply_room);
        controls->count--;
        controls->memory -= control->reply_room;
        pthread_mutex_unlock(&controls->mutex);
    }
    kv_routing_release(control->session->loop->node, control->routing);
    kv_session_release(control->session);
    free(control->body);
    free(control->reply);
    free(control);
}

void kv_control_settle(kv_control *control)
{
    assert(control->stage != CONTROL_ABANDONED);
    if (control->stage == CONTROL_QUEUED)
        control->stage = CONTROL_ABANDONED; /* its mail frees it */
    else
        control_free(control);
}

bool kv_control_reply(const kv_control *control, kv_message_head *head, const uint8_t **body)
{
    if (control->stage != CONTROL_REPLIES)
        return false;
    *head = (kv_message_head){.version = control->session->version,
                              .kind = KV_MESSAGE_CONTROL_REPLY,
                              .flags = (uint16_t)control->kind,
                              .count = control->result < 0 ? (uint32_t)-control->result : 0,
                              .request = control->id,
                              .values_size = control->result < 0 ? 0 : (uint32_t)control->result};
    *body = control->routing ? control->routing->bytes : control->reply;
    return true;
}

static void deliver(kv_mail *mail)
{
    kv_control *control = KV_CONTAINER(mail, kv_control, mail);
    kv_session *session = control->session;

    if (control->stage == CONTROL_ABANDONED) {
        control->stage = CONTROL_REPLIES;
        control_free(control);
        return;
    }
    control->stage = CONTROL_REPLIES;
    kv_counters_add(&session->loop->counters, KV_COUNTER(controls), 1);
    kv_loop_speak(session->loop, session);
}

static int64_t put_words(kv_control *control, uint32_t at, const void *source, size_t size)
{
    const uint64_t *words = source;

    assert(at + size <= control->reply_room && size % sizeof(*words) == 0);
    for (size_t i = 0; i < size / sizeof(*words); i++)
        kv_endian_store_u64(control->reply + at + i * sizeof(*words), words[i]);
    return (int64_t)(at + size);
}

static int64_t serve_statistics(kv_node *node, kv_target *target, kv_control *control)
{
    kv_node_statistics of_node;
    kv_store_statistics of_store = {0};
    int64_t size;

    kv_node_statistics_read(node, &of_node);
    kv_store_statistics_read(target->store, &of_store);
    size = put_words(control, 0, &of_node, sizeof(of_node));
    return put_words(control, (uint32_t)size, &of_store, sizeof(of_store));
}

/* Entries of this tenant and namespace, in place, with their names taken off; returns the bytes
 * that are left. */
static uint32_t strip_entries(const kv_control *control, uint8_t *entries, uint32_t size)
{
    uint32_t kept = 0;

    for (uint32_t at = 0; at < size;) {
        uint32_t key_size = kv_endian_load_u16(entries + at);
        const uint8_t *key = entries + at + ENTRY_HEAD_SIZE;
        uint32_t next = at + ENTRY_HEAD_SIZE + key_size;

        if (key_size > control->prefix_size && memcmp(key, control->prefix,
                                                      control->prefix_size) == 0) {
            key_size -= control->prefix_size;
            memmove(entries + kept, entries + at, ENTRY_HEAD_SIZE);
            kv_endian_store_u16(entries + kept, (uint16_t)key_size);
            memmove(entries + kept + ENTRY_HEAD_SIZE, key + control->prefix_size, key_size);
            kept += ENTRY_HEAD_SIZE + key_size;
        }
        at = next;
    }
    return kept;
}

static int64_t serve_list(kv_target *target, kv_control *control)
{
    uint8_t prefix[KV_NODE_PREFIX_SIZE_MAX + KV_KEY_SIZE_LIMIT];
    uint64_t cursor = kv_endian_load_u64(control->body);
    uint32_t extra = control->body_size - LIST_HEAD_SIZE;
    int64_t size;

    if (extra > KV_KEY_SIZE_LIMIT)
        return -EINVAL;
    memcpy(prefix, control->prefix, control->prefix_size);
    memcpy(prefix + control->prefix_size, control->body + LIST_HEAD_SIZE, extra);
    size = kv_store_list(target->store, &cursor, prefix, control->prefix_size + extra,
                         control->reply + 8, control->reply_room - 8);
    if (size < 0)
        return size;
    kv_endian_store_u64(control->reply, cursor);
    return 8 + (int64_t)strip_entries(control, control->reply + 8, (uint32_t)size);
}

static int64_t serve_verify(kv_target *target, kv_control *control)
{
    uint64_t cursor = kv_endian_load_u64(control->body);
    uint64_t bytes_max = kv_endian_load_u64(control->body + 8);
    uint64_t words[3] = {0};
    int64_t size = kv_store_verify(target->store, &cursor, bytes_max,
                                   control->reply + sizeof(words),
                                   control->reply_room - sizeof(words), &words[1], &words[2]);

    if (size < 0)
        return size;
    words[0] = cursor;
    put_words(control, 0, words, sizeof(words));
    return (int64_t)sizeof(words) +
           (int64_t)strip_entries(control, control->reply + sizeof(words), (uint32_t)size);
}

static int64_t serve_slabs(kv_target *target, kv_control *control)
{
    kv_slab_row *rows = calloc(SLAB_ROWS_MAX, sizeof(*rows));
    uint8_t *at = control->reply;
    int count;

    if (!rows)
        return -ENOMEM;
    count = kv_store_slabs(target->store, rows, SLAB_ROWS_MAX);
    for (int i = 0; i < count; i++, at += sizeof(*rows)) {
        kv_endian_store_u32(at, rows[i].slab_class);
        kv_endian_store_u32(at + 4, rows[i].extent_size);
        kv_endian_store_u32(at + 8, rows[i].slabs);
        kv_endian_store_u32(at + 12, 0);
        kv_endian_store_u64(at + 16, rows[i].live_count);
        kv_endian_store_u64(at + 24, rows[i].live_size);
        kv_endian_store_u64(at + 32, rows[i].free_size);
    }
    free(rows);
    return count < 0 ? count : (int64_t)(at - control->reply);
}

_Static_assert(SLAB_ROWS_MAX * sizeof(kv_slab_row) <= CONTROL_SMALL_SIZE, "all rows fit a reply");
_Static_assert(sizeof(kv_slab_row) == 40, "rows are written as they lie in memory");
_Static_assert(sizeof(kv_node_statistics) + sizeof(kv_store_statistics) <= CONTROL_SMALL_SIZE,
               "statistics fit a reply");

static int64_t serve_compact(kv_target *target, kv_control *control)
{
    int result = kv_store_compact(target->store, 0);

    if (result < 0)
        return result;
    kv_endian_store_u32(control->reply, (uint32_t)result);
    return 4;
}

static int64_t serve_describe(kv_node *node, kv_target *target, kv_control *control)
{
    char *text = (char *)control->reply;
    int size = kv_node_describe(node, text, CONTROL_SMALL_SIZE / 2);

    text[size++] = ' ';
    return size + kv_store_describe(target->store, text + size, CONTROL_SMALL_SIZE / 2);
}

static int64_t serve_flush(kv_target *target)
{
    kv_request request = {.operation = KV_OP_FLUSH};

    return kv_store_run(target->store, &request);
}

static int64_t serve(kv_node *node, kv_control *control)
{
    kv_target *target = kv_node_target(node, control->target);

    if (!target)
        return -ENOENT;
    switch (control->kind) {
    case KV_CONTROL_STATISTICS:
        return serve_statistics(node, target, control);
    case KV_CONTROL_LIST:
        return serve_list(target, control);
    case KV_CONTROL_LIST_STORED:
        return kv_stored_list(target->engine, control->body, control->body_size, control->reply,
                              control->reply_room);
    case KV_CONTROL_DIGEST:
        return kv_stored_digest(target->engine, control->body, control->reply,
                                control->reply_room);
    case KV_CONTROL_VERIFY:
        return serve_verify(target, control);
    case KV_CONTROL_SLABS:
        return serve_slabs(target, control);
    case KV_CONTROL_COMPACT:
        return serve_compact(target, control);
    case KV_CONTROL_CHECKPOINT:
        return kv_store_checkpoint(target->store, 0);
    case KV_CONTROL_FLUSH:
        return serve_flush(target);
    default:
        return serve_describe(node, target, control);
    }
}

static void *run(void *argument)
{
    kv_node *node = argument;
    kv_controls *controls = &node->controls;

    pthread_mutex_lock(&controls->mutex);
    for (;;) {
        kv_list *link = kv_list_pop(&controls->queue);
        bool stopping = controls->stopping;
        kv_control *control;

        if (!link && stopping)
            break;
        if (!link) {
            pthread_cond_wait(&controls->wanted, &controls->mutex);
            continue;
        }
        pthread_mutex_unlock(&controls->mutex);
        control = KV_CONTAINER(link, kv_control, link);
        control->result = stopping ? -ESHUTDOWN : serve(node, control);
        kv_reactor_post(control->session->loop->reactor, &control->mail);
        pthread_mutex_lock(&controls->mutex);
    }
    pthread_mutex_unlock(&controls->mutex);
    return NULL;
}

void kv_control_init(kv_node *node)
{
    pthread_mutex_init(&node->controls.mutex, NULL);
    pthread_cond_init(&node->controls.wanted, NULL);
    kv_list_init(&node->controls.queue);
}

int kv_control_start(kv_node *node)
{
    sigset_t all;
    sigset_t before;
    int error;

    sigfillset(&all); /* signals are the caller's threads' business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&node->controls.thread, NULL, run, node);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    node->controls.started = error == 0;
    if (error == 0)
        (void)pthread_setname_np(node->controls.thread, "kv-node-control");
    return -error;
}

void kv_control_stop(kv_node *node)
{
    kv_controls *controls = &node->controls;

    pthread_mutex_lock(&controls->mutex);
    controls->stopping = true;
    pthread_cond_signal(&controls->wanted);
    pthread_mutex_unlock(&controls->mutex);
}

void kv_control_join(kv_node *node)
{
    if (node->controls.started)
        pthread_join(node->controls.thread, NULL);
    node->controls.started = false;
}

void kv_control_close(kv_node *node)
{
    assert(!node->controls.started);
    assert(node->controls.count == 0);
    pthread_cond_destroy(&node->controls.wanted);
    pthread_mutex_destroy(&node->controls.mutex);
}

/* Bytes that the reply may come to; 0: the body is not what its kind wants. */
static uint32_t reply_room(uint32_t version, uint32_t kind, const uint8_t *body, uint32_t body_size)
{
    uint32_t wanted = 0;

    if (version < KV_PROTOCOL_VERSION_DIGEST && kv_stored_by_parts(kind, body_size))
        return 0;
    switch (kind) {
    case KV_CONTROL_LIST:
    case KV_CONTROL_LIST_STORED:
        wanted = body_size >= LIST_HEAD_SIZE ? kv_endian_load_u32(body + 8) : 0;
        break;
    case KV_CONTROL_VERIFY:
        wanted = body_size == VERIFY_BODY_SIZE ? kv_endian_load_u32(body + 16) : 0;
        break;
    case KV_CONTROL_DIGEST:
        return kv_stored_digest_room(body, body_size);
    default:
        return kind >= KV_CONTROL_ROUTING && kind <= KV_CONTROL_DESCRIBE && body_size == 0
                   ? CONTROL_SMALL_SIZE
                   : 0;
    }
    if (wanted == 0)
        return 0;
    return wanted <= KV_CONTROL_SIZE_LIMIT - CONTROL_HEAD_SIZE ? wanted + CONTROL_HEAD_SIZE
                                                                : KV_CONTROL_SIZE_LIMIT;
}

static bool controls_reserve(kv_controls *controls, uint32_t memory)
{
    bool granted;

    pthread_mutex_lock(&controls->mutex);
    granted = controls->count < KV_NODE_CONTROLS_MAX &&
              controls->memory + memory <= KV_NODE_CONTROL_MEMORY_MAX;
    controls->count += granted;
    controls->memory += granted ? memory : 0;
    pthread_mutex_unlock(&controls->mutex);
    return granted;
}

/* -ESHUTDOWN: the thread serves no more. */
static int control_queue(kv_control *control)
{
    kv_controls *controls = &control->session->loop->node->controls;
    int error = 0;

    pthread_mutex_lock(&controls->mutex);
    if (controls->stopping) {
        error = -ESHUTDOWN;
    } else {
        control->stage = CONTROL_QUEUED;
        kv_list_append(&controls->queue, &control->link);
        pthread_cond_signal(&controls->wanted);
    }
    pthread_mutex_unlock(&controls->mutex);
    return error;
}

static kv_control *control_create(kv_session *session, const kv_message_head *head)
{
    kv_control *control = calloc(1, sizeof(*control));

    if (!control)
        return NULL;
    control->mail.deliver = deliver;
    control->session = session;
    control->stage = CONTROL_REPLIES;
    control->id = head->request;
    control->kind = head->flags;
    control->target = head->count;
    control->prefix_size = session->prefix_size;
    memcpy(control->prefix, session->prefix, session->prefix_size);
    kv_list_init(&control->link);
    session->references++;
    return control;
}

/* What every client asks when it connects is answered without a copy, and never refused for lack
 * of memory. */
static int64_t control_route(kv_control *control)
{
    control->routing = kv_routing_hold(control->session->loop->node);
    return control->routing ? (int64_t)control->routing->size : -ENODATA;
}

/* What is asked, and room for the answer. */
static int control_fill(kv_control *control, const uint8_t *body, uint32_t body_size, uint32_t room)
{
    bool of_nodes = control->kind == KV_CONTROL_LIST_STORED || control->kind == KV_CONTROL_DIGEST;

    if (!(control->session->rights & (KV_RIGHT_ADMINISTER | (of_nodes ? KV_RIGHT_PEER : 0))))
        return -EACCES;
    if (!controls_reserve(&control->session->loop->node->controls, room))
        return -EBUSY;
    control->reply_room = room;
    control->body = malloc(body_size + 1);
    control->reply = malloc(room);
    if (!control->body || !control->reply)
        return -ENOMEM;
    memcpy(control->body, body, body_size);
    control->body_size = body_size;
    return 0;
}

/* Without the thread. */
static void control_answer(kv_control *control, int64_t result)
{
    kv_loop *loop = control->session->loop;

    control->result = result;
    kv_counters_add(&loop->counters, KV_COUNTER(controls), 1);
    kv_loop_speak(loop, control->session);
}

/* Once it is queued, the control is the thread's. */
static void control_ask(kv_control *control, int error)
{
    if (error == 0)
        error = control_queue(control);
    if (error < 0)
        control_answer(control, error);
}

void kv_control_begin(kv_session *session, const kv_message_head *head, const uint8_t *columns)
{
    bool has_body = head->columns_size > KV_MESSAGE_CRC_SIZE;
    uint32_t body_size = has_body ? head->columns_size - KV_MESSAGE_CRC_SIZE : 0;
    const uint8_t *body = has_body ? columns + KV_MESSAGE_CRC_SIZE : columns;
    uint32_t room = reply_room(head->version, head->flags, body, body_size);
    kv_control *control;

    if (room == 0 || session->control) {
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, EPROTO, "%s",
                          room == 0 ? "a control of an unknown kind, or with a body that does not fit it"
                                    : "a control came while one was under way");
        return;
    }
    control = control_create(session, head);
    if (!control) {
        kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for a control");
        return;
    }
    session->control = control;
    session->active_ns = kv_clock_ns();
    if (head->flags == KV_CONTROL_ROUTING)
        control_answer(control, control_route(control));
    else
        control_ask(control, control_fill(control, body, body_size, room));
}
