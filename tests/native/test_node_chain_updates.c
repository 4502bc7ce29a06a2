/* A head with a successor that the test plays: what is forwarded, what is dirty meanwhile, and what
 * becomes of an update when the connection, the chain or the lease goes. */

#include "node_successor.h"

static const uint32_t both[] = {0, 1};

/* Node 0 is real, node 1 the successor. */
typedef struct scene {
    chain_world world;
    chain_successor successor;
    node_client client;
    node_client reader;
    node_batch batch;
} scene;

static void stage_open(scene *stage, uint64_t capacity, uint32_t driver)
{
    node_world plan = world_plan(1);

    plan.store.capacity = capacity;
    plan.options.reactor_driver = driver;
    chain_open(&stage->world, 1, &plan);
    stage->successor = successor_open();
    stage->world.count = 2;
    snprintf(stage->world.addresses[1], sizeof(stage->world.addresses[1]), "127.0.0.1:%d",
             stage->successor.port);
    chain_draw(&stage->world, both, 2, false);
    stage->client = client_open(&stage->world.nodes[0], 1);
    stage->reader = client_open(&stage->world.nodes[0], 2);
    stage->batch = batch_make(8, 70000);
}

static void stage_close(scene *stage)
{
    batch_free(&stage->batch);
    client_close(&stage->client);
    client_close(&stage->reader);
    successor_close(&stage->successor);
    chain_close(&stage->world);
}

static void set_begin(scene *stage, const char *name, uint32_t seed)
{
    client_send(&stage->client, batch_prepare(&stage->batch, KV_OP_SET, name, seed));
}

static void set_end(scene *stage, kv_status status)
{
    assert(client_collect(&stage->client, &stage->batch.request) > 0);
    batch_expect(&stage->batch, status);
}

static void read_expect(scene *stage, uint32_t operation, const char *name, kv_status status)
{
    node_batch batch = batch_make(stage->batch.request.count, stage->batch.size_max);

    client_run(&stage->reader, batch_prepare(&batch, operation, name, 0));
    batch_expect(&batch, status);
    batch_free(&batch);
}

static void forward_expect_values(const chain_forward *forward, uint32_t seed, const node_batch *as)
{
    const uint8_t *value = message_values(&forward->message);
    uint32_t offset = 0;

    assert(forward->wire.count == as->request.count);
    for (uint32_t i = 0; i < forward->wire.count; i++) {
        kv_forward_item item;

        kv_forward_item_at(&forward->wire, i, offset, &item);
        assert(item.status == KV_OK && item.value_size == batch_size_of(as, i, seed));
        batch_fill(as->expected, item.value_size, i, seed);
        assert(memcmp(value, as->expected, item.value_size) == 0);
        assert(kv_checksum(0, value, item.value_size) == item.checksum);
        value += item.value_size;
        offset += item.key_size;
    }
}

static void a_key_is_dirty_until_the_successor_agrees(scene *stage)
{
    chain_forward forward;

    set_begin(stage, "a", 1);
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor);
    forward_expect_values(&forward, 1, &stage->batch);
    assert(forward.wire.forward == KV_FORWARD_UPDATE && forward.wire.target == 1);
    assert(forward.place == 1 && forward.wire.chain_version == stage->world.chain_version);
    assert(forward.wire.sequence == stage->client.sequence && forward.wire.channel == 1);
    read_expect(stage, KV_OP_GET, "a", KV_DIRTY);
    read_expect(stage, KV_OP_EXISTS, "a", KV_DIRTY);
    read_expect(stage, KV_OP_STAT, "a", KV_DIRTY);
    read_expect(stage, KV_OP_MATCH_PREFIX, "a", KV_DIRTY);
    read_expect(stage, KV_OP_GET, "b", KV_NOT_FOUND);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    read_expect(stage, KV_OP_EXISTS, "a", KV_OK);
    client_get(&stage->reader, &stage->batch, "a", 1);
}

static void versions_grow(scene *stage)
{
    chain_forward forward;
    uint64_t last;

    set_begin(stage, "a", 2);
    forward = successor_take(&stage->successor);
    last = kv_endian_load_u64(forward.wire.versions + 7 * 8);
    assert(last >> 40 == stage->world.chain_version);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    client_run(&stage->reader, batch_prepare(&stage->batch, KV_OP_STAT, "a", 0));
    assert(stage->batch.stats[7].version == last);
    set_begin(stage, "a", 3);
    forward = successor_take(&stage->successor);
    assert(kv_endian_load_u64(forward.wire.versions) == last + 1);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
}

static void what_time_heals_is_sent_again(scene *stage)
{
    const kv_status refusals[] = {KV_WRONG_TARGET, KV_BUSY, KV_UNAVAILABLE, KV_WRONG_TARGET};
    chain_forward forward;

    set_begin(stage, "again", 1);
    for (uint32_t i = 0; i < 4; i++) {
        forward = successor_take(&stage->successor);
        successor_answer(&stage->successor, &forward, refusals[i], KV_OK, 0);
        forward_free(&forward);
    }
    forward = successor_take(&stage->successor);
    forward_expect_values(&forward, 1, &stage->batch);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
}

static void a_broken_connection_is_made_anew(scene *stage)
{
    uint8_t part[3000];
    node_client socket;
    chain_forward forward;
    uint32_t attempt;

    set_begin(stage, "cut", 4);
    socket.descriptor = stage->successor.descriptor;
    assert(client_read(&socket, part, sizeof(part)));
    successor_hang_up(&stage->successor); /* in the middle of the values */
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor);
    forward_expect_values(&forward, 4, &stage->batch);
    attempt = forward.wire.attempt;
    assert(attempt > 0);
    forward_free(&forward);
    successor_hang_up(&stage->successor); /* all of it has come, and no answer left */
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor);
    assert(forward.wire.attempt > attempt);
    read_expect(stage, KV_OP_GET, "cut", KV_DIRTY);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
}

/* Equal keys of a batch: the first wins where only absent ones are set. */
static void the_head_settles_what_is_there(scene *stage)
{
    node_batch *batch = &stage->batch;
    chain_forward forward;

    batch_prepare(batch, KV_OP_SET, "absent", 1)->if_absent = 1;
    batch->items[3] = batch->items[0];
    client_send(&stage->client, &batch->request);
    forward = successor_take(&stage->successor);
    assert(forward.wire.statuses[0] == KV_OK && forward.wire.statuses[3] == KV_EXISTS);
    successor_agree(&stage->successor, &forward);
    assert(client_collect(&stage->client, &batch->request) > 0);
    assert(batch->items[0].status == KV_OK && batch->items[3].status == KV_EXISTS);
    batch_prepare(batch, KV_OP_SET, "a", 9)->if_absent = 1;
    client_run(&stage->client, &batch->request); /* nothing is left to be forwarded */
    batch_expect(batch, KV_EXISTS);

    batch_prepare(batch, KV_OP_DELETE, "absent", 0);
    batch->items[1] = batch->items[0];
    client_send(&stage->client, &batch->request);
    forward = successor_take(&stage->successor);
    assert(forward.wire.operation == KV_OP_DELETE);
    assert(forward.wire.statuses[0] == KV_OK && forward.wire.statuses[1] == KV_NOT_FOUND);
    assert(forward.wire.statuses[3] == KV_NOT_FOUND);
    read_expect(stage, KV_OP_EXISTS, "none", KV_NOT_FOUND);
    successor_agree(&stage->successor, &forward);
    assert(client_collect(&stage->client, &batch->request) > 0);
    assert(batch->items[0].status == KV_OK && batch->items[1].status == KV_NOT_FOUND);
    assert(batch->items[3].status == KV_NOT_FOUND && batch->items[7].status == KV_OK);
}

static void pins_and_times_to_live_are_forwarded(scene *stage)
{
    chain_forward forward;
    kv_forward_item item;

    batch_prepare(&stage->batch, KV_OP_SET, "ttl", 1)->ttl_ms = 3600000;
    client_send(&stage->client, &stage->batch.request);
    forward = successor_take(&stage->successor);
    kv_forward_item_at(&forward.wire, 0, 0, &item);
    assert(item.expiry_ms > 3600000);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    client_run(&stage->reader, batch_prepare(&stage->batch, KV_OP_STAT, "ttl", 0));
    assert(stage->batch.stats[0].expiry_ms == item.expiry_ms);

    client_send(&stage->client, batch_prepare(&stage->batch, KV_OP_PIN, "ttl", 0));
    forward = successor_take(&stage->successor);
    assert(forward.wire.operation == KV_OP_PIN);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    client_run(&stage->reader, batch_prepare(&stage->batch, KV_OP_STAT, "ttl", 0));
    assert(stage->batch.stats[0].flags == KV_ITEM_PINNED);
}

/* An update waits for the one before it on its key, and may be taken back until its turn. */
static void what_waits_for_its_turn_can_be_cancelled(scene *stage)
{
    kv_message_head cancel = {.version = KV_PROTOCOL_VERSION_MAX, .kind = KV_MESSAGE_CANCEL};
    node_client other = client_open(&stage->world.nodes[0], 3);
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];
    node_batch second = batch_make(8, 100);
    chain_forward forward;

    set_begin(stage, "turn", 1);
    forward = successor_take(&stage->successor);
    client_send(&other, batch_prepare(&second, KV_OP_SET, "turn", 2));
    while (chain_state_of(&stage->world, 0).updates_in_flight < 2)
        sched_yield();
    cancel.request = other.request_last;
    kv_message_encode(&cancel, bytes);
    assert(client_write(&other, bytes, sizeof(bytes)));
    assert(client_collect(&other, &second.request) > 0);
    batch_expect(&second, KV_CANCELLED);
    cancel.request = stage->client.request_last;
    kv_message_encode(&cancel, bytes);
    assert(client_write(&stage->client, bytes, sizeof(bytes))); /* too late for this one */
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    client_get(&stage->reader, &stage->batch, "turn", 1);
    batch_free(&second);
    client_close(&other);
}

/* The successor goes: what was under way counts as done. */
static void without_a_successor_an_update_ends(scene *stage)
{
    chain_forward forward;

    set_begin(stage, "alone", 1);
    forward = successor_take(&stage->successor);
    forward_free(&forward);
    chain_draw(&stage->world, both, 1, false);
    set_end(stage, KV_OK);
    client_get(&stage->reader, &stage->batch, "alone", 1);
    successor_hang_up(&stage->successor);
    chain_draw(&stage->world, both, 2, false);
    set_begin(stage, "alone", 2);
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor);
    assert(forward.wire.chain_version == stage->world.chain_version);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
}

/* The same successor, another chain version: it is sent again in its name. */
static void a_newer_chain_is_forwarded_to_again(scene *stage)
{
    chain_forward forward;
    uint64_t before = stage->world.chain_version;

    set_begin(stage, "newer", 1);
    forward = successor_take(&stage->successor);
    assert(forward.wire.chain_version == before);
    chain_draw(&stage->world, both, 2, false);
    successor_agree(&stage->successor, &forward); /* nobody listens to it any more */
    forward = successor_take(&stage->successor);
    assert(forward.wire.chain_version == before + 1);
    read_expect(stage, KV_OP_EXISTS, "newer", KV_DIRTY);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
}

static void other_chain_versions_are_refused(scene *stage)
{
    node_client *client = &stage->client;
    chain_forward forward;

    client->chain_version = stage->world.chain_version - 1;
    client_run(client, batch_prepare(&stage->batch, KV_OP_SET, "stale", 1));
    batch_expect(&stage->batch, KV_WRONG_TARGET);
    client_run(client, batch_prepare(&stage->batch, KV_OP_GET, "a", 1));
    batch_expect(&stage->batch, KV_WRONG_TARGET);
    client->chain_version = stage->world.chain_version;
    set_begin(stage, "stale", 1);
    forward = successor_take(&stage->successor);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    client->chain_version = 0;
}

static void nothing_is_served_without_a_lease(scene *stage)
{
    node_client *client = &stage->client;

    kv_node_set_lease(stage->world.nodes[0].node, 0);
    client_run(client, batch_prepare(&stage->batch, KV_OP_SET, "lease", 1));
    batch_expect(&stage->batch, KV_WRONG_TARGET);
    for (uint32_t operation = KV_OP_GET; operation <= KV_OP_UNPIN; operation++) {
        client_run(client, batch_prepare(&stage->batch, operation, "a", 0));
        batch_expect(&stage->batch, KV_WRONG_TARGET);
    }
    chain_lease(&stage->world, 0);
    client_run(client, batch_prepare(&stage->batch, KV_OP_EXISTS, "a", 0));
    batch_expect(&stage->batch, KV_OK);
}

/* What ran has an outcome that this node does not know; what waited was not done. */
static void out_of_its_chain_a_target_ends_everything(scene *stage)
{
    node_client other = client_open(&stage->world.nodes[0], 4);
    node_batch second = batch_make(8, 100);
    chain_forward forward;

    set_begin(stage, "gone", 1);
    forward = successor_take(&stage->successor);
    forward_free(&forward);
    client_send(&other, batch_prepare(&second, KV_OP_SET, "gone", 2));
    while (chain_state_of(&stage->world, 0).updates_in_flight < 2)
        sched_yield();
    chain_draw(&stage->world, both, 0, false);
    assert(client_collect(&other, &second.request) > 0);
    batch_expect(&second, KV_WRONG_TARGET);
    client_expect_end(&stage->client);
    client_run(&other, batch_prepare(&second, KV_OP_GET, "a", 0));
    batch_expect(&second, KV_WRONG_TARGET);
    assert(chain_state_of(&stage->world, 0).chain_version == 0);
    batch_free(&second);
    client_close(&other);
}

/* With little space the successor is asked first, and its refusal is everybody's. */
static void a_careful_update_takes_a_refusal(scene *stage)
{
    chain_forward forward;

    set_begin(stage, "full", 1);
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor);
    assert(forward.wire.flags == KV_FORWARD_CAREFUL);
    successor_answer(&stage->successor, &forward, KV_OK, KV_NO_SPACE, 1000);
    forward_free(&forward);
    set_end(stage, KV_NO_SPACE);
    read_expect(stage, KV_OP_GET, "full", KV_NOT_FOUND);
}

/* Who refuses what it is bound to apply breaks the protocol, and is asked again. */
static void a_binding_update_takes_none(scene *stage)
{
    chain_forward forward;

    set_begin(stage, "bound", 1);
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor); /* careful: the successor has not said yet */
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
    set_begin(stage, "bound", 2);
    forward = successor_take(&stage->successor);
    assert(forward.wire.flags == 0);
    successor_answer(&stage->successor, &forward, KV_OK, KV_NO_SPACE, 1ull << 40);
    forward_free(&forward);
    successor_hang_up(&stage->successor);
    successor_accept(&stage->successor);
    forward = successor_take(&stage->successor);
    successor_agree(&stage->successor, &forward);
    set_end(stage, KV_OK);
}

static void a_successor_that_is_not_there_is_told(scene *stage)
{
    kv_node_event event;

    successor_close(&stage->successor);
    set_begin(stage, "lost", 1);
    event = world_event(&stage->world.nodes[0], KV_EVENT_PEER_LOST);
    assert(event.connection == 1 && event.error == ECONNREFUSED);
    assert(strstr(event.text, stage->world.addresses[1]));
    chain_draw(&stage->world, both, 1, false);
    set_end(stage, KV_OK);
    stage->successor = successor_open();
}

static void with_stage(uint64_t capacity, uint32_t driver, void (*test)(scene *stage))
{
    scene stage;

    stage_open(&stage, capacity, driver);
    test(&stage);
    stage_close(&stage);
}

static void all_in_one_life(scene *stage)
{
    a_key_is_dirty_until_the_successor_agrees(stage);
    versions_grow(stage);
    what_time_heals_is_sent_again(stage);
    a_broken_connection_is_made_anew(stage);
    the_head_settles_what_is_there(stage);
    pins_and_times_to_live_are_forwarded(stage);
    what_waits_for_its_turn_can_be_cancelled(stage);
    without_a_successor_an_update_ends(stage);
    a_newer_chain_is_forwarded_to_again(stage);
    other_chain_versions_are_refused(stage);
    nothing_is_served_without_a_lease(stage);
    out_of_its_chain_a_target_ends_everything(stage);
}

int main(void)
{
    with_stage(192u << 20, KV_REACTOR_EPOLL, all_in_one_life);
    with_stage(400u << 20, KV_REACTOR_EPOLL, all_in_one_life);
    with_stage(192u << 20, KV_REACTOR_EPOLL, a_careful_update_takes_a_refusal);
    with_stage(400u << 20, KV_REACTOR_EPOLL, a_binding_update_takes_none);
    with_stage(192u << 20, KV_REACTOR_EPOLL, a_successor_that_is_not_there_is_told);
    if (world_may_use_uring())
        with_stage(400u << 20, KV_REACTOR_URING, all_in_one_life);
    return 0;
}
