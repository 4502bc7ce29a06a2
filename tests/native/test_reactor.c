/* The reactor by itself, over each driver: mail, stop, timers, connects and listeners. Streams are
 * test_reactor_socket.c's. */
#include "reactor_subject.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MS 1000000ull
#define POSTERS 4u
#define POSTS 5000u
#define STORM 300u

/* ---- mail ---- */

typedef struct test_mail {
    kv_mail mail;
    uint32_t thread;
    uint32_t number;
} test_mail;

typedef struct test_poster {
    kv_reactor *reactor;
    uint32_t thread;
    test_mail *mails;
} test_poster;

static uint32_t next_number[POSTERS];
static uint32_t delivered;

static void mail_in_order(kv_mail *mail)
{
    test_mail *self = KV_CONTAINER(mail, test_mail, mail);

    assert(self->number == next_number[self->thread]);
    next_number[self->thread]++;
    delivered++;
}

static void *post_many(void *argument)
{
    test_poster *poster = argument;

    for (uint32_t i = 0; i < POSTS; i++) {
        poster->mails[i] = (test_mail){
            .mail.deliver = mail_in_order, .thread = poster->thread, .number = i};
        kv_reactor_post(poster->reactor, &poster->mails[i].mail);
    }
    return NULL;
}

static void posts_of_a_thread_are_delivered_in_order(test_driver driver)
{
    static test_mail mails[POSTERS][POSTS];
    kv_reactor *reactor;
    pthread_t threads[POSTERS];
    test_poster posters[POSTERS];

    if (driver == EPOLL_PRIVATE)
        return;
    reactor = open_reactor(driver);
    delivered = 0;
    memset(next_number, 0, sizeof(next_number));
    for (uint32_t i = 0; i < POSTERS; i++) {
        posters[i] = (test_poster){.reactor = reactor, .thread = i, .mails = mails[i]};
        assert(pthread_create(&threads[i], NULL, post_many, &posters[i]) == 0);
    }
    turn_until(reactor, &delivered, POSTERS * POSTS);
    for (uint32_t i = 0; i < POSTERS; i++)
        assert(pthread_join(threads[i], NULL) == 0);
    kv_reactor_close(reactor);
}

/* Sends mail back and forth between two reactors, so that each post finds a sleeper. */
typedef struct test_relay {
    kv_mail mail;
    kv_reactor *to;
    struct test_relay *reply;
    uint32_t left;
} test_relay;

static void relay(kv_mail *mail)
{
    test_relay *self = KV_CONTAINER(mail, test_relay, mail);

    if (self->left == 0) {
        kv_reactor_stop(self->to);
        kv_reactor_stop(self->reply->to);
        return;
    }
    self->reply->left = self->left - 1;
    kv_reactor_post(self->to, &self->reply->mail);
}

static void *run_reactor(void *argument)
{
    kv_reactor_run(argument);
    return NULL;
}

static void a_post_wakes_a_sleeper_every_time(test_driver driver)
{
    kv_reactor *here;
    kv_reactor *there;
    test_relay forth = {.mail.deliver = relay, .left = 2000};
    test_relay back = {.mail.deliver = relay};
    pthread_t thread;

    if (driver == EPOLL_PRIVATE)
        return;
    here = open_reactor(driver);
    there = open_reactor(driver);
    forth.to = here;
    forth.reply = &back;
    back.to = there;
    back.reply = &forth;
    assert(pthread_create(&thread, NULL, run_reactor, there) == 0);
    kv_reactor_post(there, &forth.mail);
    kv_reactor_run(here);
    assert(pthread_join(thread, NULL) == 0);
    kv_reactor_close(here);
    kv_reactor_close(there);
}

static kv_reactor *posting_reactor;

static void post_again(kv_mail *mail)
{
    test_mail *self = KV_CONTAINER(mail, test_mail, mail);

    if (++self->number < 3)
        kv_reactor_post(posting_reactor, mail);
}

static void what_a_delivery_posts_waits_for_the_next_turn(test_driver driver)
{
    test_mail mail = {.mail.deliver = post_again};

    if (driver == EPOLL_PRIVATE)
        return;
    posting_reactor = open_reactor(driver);
    kv_reactor_post(posting_reactor, &mail.mail);
    for (uint32_t turn = 1; turn <= 3; turn++) {
        assert(kv_reactor_turn(posting_reactor, KV_REACTOR_FOREVER) == 1);
        assert(mail.number == turn);
    }
    assert(kv_reactor_turn(posting_reactor, 0) == 0);
    kv_reactor_close(posting_reactor);
}

static void a_stop_before_the_run_ends_it(test_driver driver)
{
    kv_reactor *reactor;

    if (driver == EPOLL_PRIVATE)
        return;
    reactor = open_reactor(driver);
    kv_reactor_stop(reactor);
    kv_reactor_stop(reactor);
    kv_reactor_run(reactor);
    assert(kv_reactor_turn(reactor, 0) == 0);
    kv_reactor_close(reactor);
}

/* ---- timers ---- */

typedef struct test_timer {
    kv_timer timer;
    kv_reactor *reactor;
    uint64_t expired_ns;
    uint32_t expired;
    uint32_t again;
} test_timer;

static void timer_expire(kv_timer *timer)
{
    test_timer *self = KV_CONTAINER(timer, test_timer, timer);

    assert(!kv_timer_is_set(timer));
    self->expired++;
    self->expired_ns = kv_reactor_now_ns(self->reactor);
    assert(self->expired_ns >= timer->due_ns);
    if (self->again > 0) {
        self->again--;
        kv_timer_set(self->reactor, timer, self->expired_ns + MS);
    }
}

static void timers_wake_the_reactor_and_are_never_early(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    test_timer first = {.timer.expire = timer_expire, .reactor = reactor, .again = 2};
    test_timer second = {.timer.expire = timer_expire, .reactor = reactor};
    uint64_t now = clock_ns();

    kv_timer_set(reactor, &second.timer, now + 4 * MS);
    kv_timer_set(reactor, &first.timer, now + 400 * MS);
    kv_timer_set(reactor, &first.timer, now + MS); /* anew */
    turn_until(reactor, &first.expired, 3);
    turn_until(reactor, &second.expired, 1);
    kv_timer_set(reactor, &second.timer, now);
    kv_timer_stop(reactor, &second.timer);
    kv_timer_stop(reactor, &second.timer);
    assert(kv_reactor_turn(reactor, 0) == 0);
    kv_reactor_close(reactor);
}

static void a_turn_ends_at_its_deadline(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    uint64_t deadline = clock_ns() + 3 * MS;
    int descriptors[2];
    uint8_t bytes[8];
    test_end end;

    /* Also while a receive is out, which a private reactor waits for by itself. */
    pair_open(descriptors);
    end_open(&end, reactor, descriptors[0]);
    end_receive(&end, bytes, sizeof(bytes));
    while (clock_ns() < deadline)
        assert(kv_reactor_turn(reactor, deadline) == 0);
    assert(end.receives == 0);
    end_close(&end);
    close(descriptors[1]);
    kv_reactor_close(reactor);
}

/* ---- connects ---- */

static void close_then(test_end *end)
{
    kv_socket_close(&end->socket);
}

static void a_refused_connect_says_so(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    struct sockaddr_in address;
    int listener = listener_descriptor(&address, 1);
    test_end end;

    close(listener);
    end_open(&end, reactor, tcp_descriptor());
    end.then = close_then;
    kv_socket_connect(&end.socket, (struct sockaddr *)&address, sizeof(address));
    assert(end.connects == 0);
    turn_until(reactor, &end.closes, 1);
    assert(end.connects == 1 && end.connect_result == -ECONNREFUSED);
    kv_reactor_close(reactor);
}

static void an_error_known_at_once_is_told_later(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    struct sockaddr_un nowhere = {.sun_family = AF_UNIX, .sun_path = "/nowhere/nobody"};
    test_end told;
    test_end closed;

    end_open(&told, reactor, socket(AF_UNIX, SOCK_STREAM, 0));
    end_open(&closed, reactor, socket(AF_UNIX, SOCK_STREAM, 0));
    kv_socket_connect(&told.socket, (struct sockaddr *)&nowhere, sizeof(nowhere));
    kv_socket_connect(&closed.socket, (struct sockaddr *)&nowhere, sizeof(nowhere));
    assert(told.connects == 0);
    end_close(&closed);
    turn_until(reactor, &told.connects, 1);
    assert(told.connect_result == -ENOENT && closed.connects == 0);
    end_close(&told);
    kv_reactor_close(reactor);
}

static void a_connect_under_way_can_be_closed(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    struct sockaddr_in address;
    int listener = listener_descriptor(&address, 1);
    test_end end;

    end_open(&end, reactor, tcp_descriptor());
    kv_socket_connect(&end.socket, (struct sockaddr *)&address, sizeof(address));
    end_close(&end);
    assert(end.connects == 0);
    close(listener);
    kv_reactor_close(reactor);
}

/* ---- listeners ---- */

typedef struct test_listener {
    kv_listener listener;
    uint32_t accepted;
    uint32_t closes;
    bool closing; /* in the first accepted */
    int descriptors[STORM];
} test_listener;

static void listener_accepted(kv_listener *listener, int descriptor,
                              const struct sockaddr_storage *address)
{
    test_listener *self = KV_CONTAINER(listener, test_listener, listener);

    assert(descriptor >= 0 && self->accepted < STORM);
    assert(address->ss_family == AF_INET);
    assert(((const struct sockaddr_in *)(const void *)address)->sin_port != 0);
    assert((fcntl(descriptor, F_GETFL) & O_NONBLOCK) != 0);
    assert((fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
    self->descriptors[self->accepted++] = descriptor;
    if (self->closing)
        kv_listener_close(listener);
}

static void listener_closed(kv_listener *listener)
{
    KV_CONTAINER(listener, test_listener, listener)->closes++;
}

static void listener_open(test_listener *listener, kv_reactor *reactor,
                          struct sockaddr_in *address)
{
    memset(listener, 0, sizeof(*listener));
    listener->listener.accepted = listener_accepted;
    listener->listener.closed = listener_closed;
    kv_listener_open(&listener->listener, reactor, listener_descriptor(address, STORM));
}

static void listener_close(test_listener *listener)
{
    kv_reactor *reactor = listener->listener.reactor;

    if (!listener->closing)
        kv_listener_close(&listener->listener);
    turn_until(reactor, &listener->closes, 1);
    for (uint32_t i = 0; i < listener->accepted; i++)
        close(listener->descriptors[i]);
}

static void every_connection_of_a_storm_is_accepted(test_driver driver)
{
    static test_listener listener;
    static test_end ends[STORM];
    kv_reactor *reactor = open_reactor(driver);
    struct sockaddr_in address;

    listener_open(&listener, reactor, &address);
    for (uint32_t i = 0; i < STORM; i++) {
        end_open(&ends[i], reactor, tcp_descriptor());
        kv_socket_connect(&ends[i].socket, (struct sockaddr *)&address, sizeof(address));
    }
    turn_until(reactor, &listener.accepted, STORM);
    for (uint32_t i = 0; i < STORM; i++) {
        turn_until(reactor, &ends[i].connects, 1);
        assert(ends[i].connect_result == 0);
        end_close(&ends[i]);
    }
    listener_close(&listener);
    kv_reactor_close(reactor);
}

static void a_listener_may_be_closed_by_its_first_connection(test_driver driver)
{
    static test_listener listener;
    kv_reactor *reactor = open_reactor(driver);
    struct sockaddr_in address;
    int clients[3];

    listener_open(&listener, reactor, &address);
    listener.closing = true;
    for (uint32_t i = 0; i < 3; i++) {
        clients[i] = tcp_descriptor();
        assert(connect(clients[i], (struct sockaddr *)&address, sizeof(address)) == 0);
    }
    turn_until(reactor, &listener.closes, 1);
    assert(listener.accepted == 1);
    listener_close(&listener);
    for (uint32_t i = 0; i < 3; i++)
        close(clients[i]);
    kv_reactor_close(reactor);
}

static void without_descriptors_accepting_rests_and_goes_on(test_driver driver)
{
    static test_listener listener;
    kv_reactor *reactor = open_reactor(driver);
    struct sockaddr_in address;
    struct rlimit before;
    struct rlimit none;
    int client = tcp_descriptor();

    listener_open(&listener, reactor, &address);
    assert(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none = (struct rlimit){.rlim_cur = (rlim_t)client, .rlim_max = before.rlim_max};
    assert(setrlimit(RLIMIT_NOFILE, &none) == 0);
    assert(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
    while (!kv_timer_is_set(&listener.listener.pause))
        (void)kv_reactor_turn(reactor, KV_REACTOR_FOREVER);
    assert(kv_reactor_turn(reactor, 0) == 0);
    assert(listener.accepted == 0);

    assert(setrlimit(RLIMIT_NOFILE, &before) == 0);
    turn_until(reactor, &listener.accepted, 1);
    listener_close(&listener);
    close(client);
    kv_reactor_close(reactor);
}

/* ---- forks ---- */

static void a_forked_child_abandons_without_a_trace(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    int descriptors[2];
    int hold[2];
    uint8_t byte = 7;
    test_end end;
    pid_t child;

    pair_open(descriptors);
    assert(pipe(hold) == 0);
    end_open(&end, reactor, descriptors[0]);
    end_receive(&end, &byte, 1);
    assert(kv_reactor_turn(reactor, 0) == 0);
    child = fork();
    assert(child >= 0);
    if (child == 0) {
        close(hold[1]);
        kv_reactor_abandon(reactor);
        (void)!read(hold[0], &byte, 1); /* until the parent closes its end */
        _exit(0);
    }

    assert(write(descriptors[1], "x", 1) == 1);
    turn_until(reactor, &end.receives, 1);
    assert(end.received == 1 && byte == 'x');
    /* The child still holds the descriptor: the other end learns of the close all the same, and no
     * event of the dead socket comes. */
    end_close(&end);
    assert(read(descriptors[1], &byte, 1) == 0);
    assert(write(descriptors[1], "x", 1) < 0 || kv_reactor_turn(reactor, 0) == 0);
    close(hold[1]);
    close(hold[0]);
    assert(waitpid(child, NULL, 0) == child);
    close(descriptors[1]);
    kv_reactor_close(reactor);
}

int main(void)
{
    static const test_rule rules[] = {
        posts_of_a_thread_are_delivered_in_order,
        a_post_wakes_a_sleeper_every_time,
        what_a_delivery_posts_waits_for_the_next_turn,
        a_stop_before_the_run_ends_it,
        timers_wake_the_reactor_and_are_never_early,
        a_turn_ends_at_its_deadline,
        a_refused_connect_says_so,
        an_error_known_at_once_is_told_later,
        a_connect_under_way_can_be_closed,
        every_connection_of_a_storm_is_accepted,
        a_listener_may_be_closed_by_its_first_connection,
        without_descriptors_accepting_rests_and_goes_on,
        a_forked_child_abandons_without_a_trace,
    };

    signal(SIGPIPE, SIG_IGN); /* of the test's own writes */
    check_all(rules, sizeof(rules) / sizeof(rules[0]));
    return 0;
}
