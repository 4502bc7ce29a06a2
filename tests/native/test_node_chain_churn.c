/* Chains that change all the time, under clients that go on: targets leave from any place and come
 * back syncing, connections are lost, and in the end all that serve hold the same. */

#include "bytes/random.h"
#include "node_chains.h"

#include <pthread.h>
#include <stdatomic.h>

#define NODES 3u
#define CLIENTS 4u
#define KEYS 12u
#define ENTRY_SIZE 28u

typedef struct upheaval {
    chain_world world;
    pthread_mutex_t mutex; /* the order, as clients know it */
    uint32_t order[NODES];
    uint32_t serving;
    bool syncing;
    atomic_bool stops;
    atomic_uint done;      /* batches that came to something */
} upheaval;

typedef struct churn_client {
    upheaval *churn;
    uint32_t number;
    pthread_t thread;
} churn_client;

/* A request, sent again until somebody serves it. False: the test ends. */
static bool ask(upheaval *churn, node_client *client, uint32_t *node, node_batch *batch, bool reads)
{
    uint32_t number = kv_endian_load_u32(client->names.client);
    while (!atomic_load(&churn->stops)) {
        uint32_t wanted;
        bool again = false;

        pthread_mutex_lock(&churn->mutex);
        wanted = churn->order[reads ? churn->serving - 1 : 0];
        pthread_mutex_unlock(&churn->mutex);
        if (*node != wanted) {
            uint64_t sequence = client->sequence;

            client_close(client);
            *client = client_open(&churn->world.nodes[wanted], number);
            client->sequence = sequence;
            *node = wanted;
        }
        client_send(client, &batch->request);
        if (client_collect(client, &batch->request) == 0) {
            *node = UINT32_MAX; /* it was cut: the next one may be another */
            continue;
        }
        for (uint32_t i = 0; i < batch->request.count; i++)
            again |= batch->items[i].status == KV_WRONG_TARGET ||
                     batch->items[i].status == KV_BUSY || batch->items[i].status == KV_DIRTY;
        if (!again)
            return true;
        sched_yield();
    }
    return false;
}

static void *client_thread(void *argument)
{
    churn_client *self = argument;
    upheaval *churn = self->churn;
    node_batch batch = batch_make(KEYS, 20000);
    node_client client = client_plan(self->number);
    kv_random random;
    uint32_t node = UINT32_MAX;
    uint32_t seed = self->number;

    client_connect(&client, &churn->world.nodes[0]);
    kv_random_init(&random, self->number);
    for (;;) {
        uint32_t draw = (uint32_t)kv_random_below(&random, 10);
        uint32_t operation = draw < 6 ? KV_OP_SET : draw < 8 ? KV_OP_DELETE : KV_OP_GET;

        seed += CLIENTS;
        batch_prepare(&batch, operation, draw % 2 ? "odd" : "even", seed);
        batch.request.count = 1 + (uint32_t)kv_random_below(&random, KEYS);
        if (!ask(churn, &client, &node, &batch, operation == KV_OP_GET))
            break;
        batch.request.count = KEYS;
        atomic_fetch_add(&churn->done, 1);
    }
    batch_free(&batch);
    client_close(&client);
    return NULL;
}

static void tell(upheaval *churn)
{
    uint32_t order[NODES];

    pthread_mutex_lock(&churn->mutex);
    memcpy(order, churn->order, sizeof(order));
    pthread_mutex_unlock(&churn->mutex);
    chain_draw(&churn->world, order, churn->serving, churn->syncing);
}

/* Some batches go through before the next change. */
static void let_pass(upheaval *churn, uint32_t count)
{
    uint32_t from = atomic_load(&churn->done);

    while (atomic_load(&churn->done) - from < count)
        sched_yield();
}

/* The target at `place` leaves; then it comes back, syncs, and serves. */
static void turn_over(upheaval *churn, uint32_t place)
{
    uint32_t leaver = churn->order[place];

    pthread_mutex_lock(&churn->mutex);
    memmove(churn->order + place, churn->order + place + 1,
            (NODES - 1 - place) * sizeof(churn->order[0]));
    churn->order[NODES - 1] = leaver;
    churn->serving = NODES - 1;
    pthread_mutex_unlock(&churn->mutex);
    tell(churn);
    let_pass(churn, 20);
    world_events_drop(&churn->world.nodes[leaver]);
    churn->syncing = true;
    tell(churn);
    world_event(&churn->world.nodes[leaver], KV_EVENT_SYNCED);
    churn->syncing = false;
    pthread_mutex_lock(&churn->mutex);
    churn->serving = NODES;
    pthread_mutex_unlock(&churn->mutex);
    tell(churn);
    let_pass(churn, 20);
}

/* Everything that a target holds, hashed so that the order does not matter. */
static uint64_t holdings_sum(chain_world *world, uint32_t node, uint32_t *count)
{
    node_client client = client_open(&world->nodes[node], 77);
    uint8_t body[12], *reply;
    uint64_t sum = 0;
    int64_t size;

    kv_endian_store_u64(body, 0);
    kv_endian_store_u32(body + 8, 65536);
    size = client_control(&client, KV_CONTROL_LIST_STORED, 1, body, sizeof(body), &reply);
    assert(size >= 8 && kv_endian_load_u64(reply) == UINT64_MAX);
    *count = 0;
    for (int64_t at = 8; at < size; (*count)++) {
        uint32_t entry = ENTRY_SIZE + kv_endian_load_u16(reply + at);

        sum += (uint64_t)kv_checksum(1, reply + at, entry) << 16 ^ kv_checksum(2, reply + at, entry);
        at += entry;
    }
    free(reply);
    client_close(&client);
    return sum;
}

static void replicas_agree(upheaval *churn)
{
    uint32_t count = 0, other;
    uint64_t sum = holdings_sum(&churn->world, 0, &count);

    for (uint32_t i = 0; i < NODES; i++)
        while (chain_state_of(&churn->world, i).updates_in_flight > 0)
            sched_yield();
    sum = holdings_sum(&churn->world, 0, &count);
    assert(count <= 2 * KEYS);
    for (uint32_t i = 1; i < NODES; i++)
        assert(holdings_sum(&churn->world, i, &other) == sum && other == count);
}

static void run(uint32_t reactors, uint32_t driver, uint64_t capacity)
{
    node_world plan = world_plan(1);
    churn_client clients[CLIENTS];
    upheaval churn = {.order = {0, 1, 2}, .serving = NODES};

    plan.options.reactors = reactors;
    plan.options.reactor_driver = driver;
    plan.store.capacity = capacity;
    pthread_mutex_init(&churn.mutex, NULL);
    chain_open(&churn.world, NODES, &plan);
    tell(&churn);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (churn_client){.churn = &churn, .number = i + 1};
        assert(pthread_create(&clients[i].thread, NULL, client_thread, &clients[i]) == 0);
    }
    let_pass(&churn, 20);
    for (uint32_t round = 0; round < 9; round++)
        turn_over(&churn, (round * 2) % NODES);
    atomic_store(&churn.stops, true);
    for (uint32_t i = 0; i < CLIENTS; i++)
        pthread_join(clients[i].thread, NULL);
    replicas_agree(&churn);
    chain_close(&churn.world);
    pthread_mutex_destroy(&churn.mutex);
}

int main(void)
{
    run(1, KV_REACTOR_EPOLL, 192u << 20);
    run(2, KV_REACTOR_EPOLL, 400u << 20);
    if (world_may_use_uring())
        run(2, KV_REACTOR_URING, 400u << 20);
    return 0;
}
