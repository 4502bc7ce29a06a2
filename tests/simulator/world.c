/* Virtual time, an agenda of events, and connections that delay, hold back and break.
 *
 * A connection has an opener, carries messages in order both ways, and may be cut at any time. The
 * opener hears nothing more of it from then on, but what it sent may still arrive, much later, and
 * after what it sends by another one. */

#include "simulator.h"

#include <stdarg.h>

void sim_fail(sim_world *world, const char *format, ...)
{
    va_list arguments;

    if (world->failure[0])
        return;
    va_start(arguments, format);
    vsnprintf(world->failure, sizeof(world->failure), format, arguments);
    va_end(arguments);
    sim_tell(world, SIM_FAILED, 0, 0);
}

void sim_say(const sim_world *world, const char *format, ...)
{
    va_list arguments;

    if (!world->options.talks)
        return;
    printf("%12.6f  ", (double)world->now / 1e9);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
}

bool sim_tell(sim_world *world, sim_effect_kind kind, uint32_t actor, uint32_t target)
{
    uint32_t at = (world->effect_first + world->effect_count) % SIM_EFFECTS_MAX;

    if (world->effect_count == SIM_EFFECTS_MAX)
        return false;
    world->effects[at] = (sim_effect){(uint32_t)kind, actor, target};
    world->effect_count++;
    return true;
}

static bool event_before(const sim_event *a, const sim_event *b)
{
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

void sim_push(sim_world *world, sim_event event)
{
    uint32_t at = world->agenda_count;

    world->agenda =
        sim_grow(world->agenda, world->agenda_count, &world->agenda_room, sizeof(event));
    world->agenda_count++;
    event.order = world->order++;
    for (; at > 0 && event_before(&event, &world->agenda[(at - 1) / 2]); at = (at - 1) / 2)
        world->agenda[at] = world->agenda[(at - 1) / 2];
    world->agenda[at] = event;
}

sim_event sim_pop(sim_world *world)
{
    sim_event first = world->agenda[0], last = world->agenda[--world->agenda_count];
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

void sim_plan(sim_world *world, uint64_t delay, sim_event_kind kind, uint32_t actor,
              uint32_t target, uint64_t a, uint64_t b)
{
    uint32_t run = actor < SIM_NODES_MAX ? world->nodes[actor].run : 0;

    sim_push(world, (sim_event){.time = world->now + delay, .kind = kind, .actor = actor,
                                .run = run, .target = target, .a = a, .b = b});
}

/* Mostly short, sometimes long. */
uint64_t sim_delay(sim_world *world)
{
    if (sim_one_in(&world->network, 60))
        return sim_draw(&world->network, 30 * MILLISECOND);
    return 40 * MICROSECOND + sim_draw(&world->network, 300 * MICROSECOND);
}

/* The process that an actor is now; 0: it is down. */
uint32_t sim_run_of(const sim_world *world, uint32_t actor)
{
    if (actor >= SIM_NODES_MAX)
        return 1;
    return world->nodes[actor].up ? world->nodes[actor].run : 0;
}

uint64_t *sim_paused_until(sim_world *world, uint32_t actor)
{
    if (actor < SIM_NODES_MAX)
        return &world->nodes[actor].paused_until;
    return &world->clients[actor - SIM_NODES_MAX].paused_until;
}

/* Until when nothing gets from one to the other. */
static uint64_t blocked_until(const sim_world *world, uint32_t from, uint32_t to)
{
    if (from < SIM_NODES_MAX && to < SIM_NODES_MAX)
        return world->blocked_until[from][to];
    return world->nodes[from < SIM_NODES_MAX ? from : to].clients_blocked_until;
}

static uint64_t slowness(sim_world *world, uint32_t actor)
{
    const sim_node *node = &world->nodes[actor];

    if (actor >= SIM_NODES_MAX || world->now >= node->slow_until)
        return 0;
    return sim_draw(&world->network, node->slow_us * MICROSECOND + 1);
}

void sim_cut(sim_world *world, uint32_t number)
{
    sim_connection *connection = &world->connections[number];
    kv_random *random = &world->network;

    if (!connection->open)
        return;
    connection->open = false;
    connection->late_count = sim_one_in(random, 2) ? UINT32_MAX : (uint32_t)sim_draw(random, 4);
    connection->late_delay = sim_one_in(random, 2) ? sim_draw(random, 80 * MILLISECOND) : 0;
    if (sim_run_of(world, connection->from) == connection->from_run)
        sim_plan(world, sim_delay(world), EVENT_NOTICE, connection->from, 0, number, 0);
}

/* A connection to whoever is not there is cut at once, which is noticed as with any other. */
uint32_t sim_connect(sim_world *world, uint32_t from, uint32_t to)
{
    uint32_t number = ++world->connection_count;
    sim_connection *connection;

    world->connections = sim_grow(world->connections, number, &world->connection_room,
                                  sizeof(*world->connections));
    connection = &world->connections[number];
    *connection = (sim_connection){.from = from, .from_run = sim_run_of(world, from), .to = to,
                                   .to_run = sim_run_of(world, to), .open = true};
    if (connection->to_run == 0 || blocked_until(world, from, to) > world->now ||
        blocked_until(world, to, from) > world->now) {
        sim_cut(world, number);
        connection->late_count = 0;
        connection->failed = true;
    }
    return number;
}

sim_message *sim_message_make(uint32_t size)
{
    sim_message *message = malloc(sizeof(*message) + size);

    assert(message != NULL);
    memset(message, 0, sizeof(*message));
    message->size = size;
    return message;
}

static void post(sim_world *world, sim_message *message, uint64_t time)
{
    sim_push(world, (sim_event){.time = time, .kind = EVENT_ARRIVE, .actor = message->to,
                                .message = message});
}

void sim_send(sim_world *world, uint32_t number, bool reply, sim_message *message)
{
    sim_connection *connection = &world->connections[number];
    uint64_t time = world->now + sim_delay(world);
    uint64_t blocked;

    if (!connection->open) {
        free(message);
        return;
    }
    message->connection = number;
    message->reply = reply;
    message->from = reply ? connection->to : connection->from;
    message->to = reply ? connection->from : connection->to;
    time += slowness(world, message->from) + slowness(world, message->to);
    blocked = blocked_until(world, message->from, message->to);
    if (time < blocked)
        time = blocked + sim_delay(world); /* it is sent again, below */
    if (time < connection->last[reply])
        time = connection->last[reply];
    connection->last[reply] = time;
    post(world, message, time);
}

/* Whether a message that is there now is to be heard; one may be put off by the cut of its
 * connection. Who is told no has no message any more. */
bool sim_arrives(sim_world *world, sim_message **message)
{
    sim_message *here = *message;
    sim_connection *connection = &world->connections[here->connection];
    uint32_t run = here->reply ? connection->from_run : connection->to_run;

    if (!here->reply && connection->values_until > world->now) {
        post(world, here, connection->values_until);
        *message = NULL;
        return false;
    }
    if (sim_run_of(world, here->to) == run && connection->open)
        return true;
    if (sim_run_of(world, here->to) != run || here->reply || connection->late_count == 0) {
        free(here);
        *message = NULL;
        return false;
    }
    if (connection->late_delay > 0 && !here->delayed) {
        here->delayed = true;
        post(world, here, world->now + connection->late_delay);
        *message = NULL;
        return false;
    }
    connection->late_count--;
    return true;
}

void sim_answer(sim_world *world, const sim_message *request, sim_message *answer)
{
    sim_send(world, request->connection, true, answer);
}
