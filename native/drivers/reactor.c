/* The reactor's front: the turn, the mailbox, stop and timers. What waits is a driver's, what
 * concerns sockets is reactor_socket.c's; see reactor_state.h. */
#include "drivers/reactor_state.h"

#include "bytes/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- life ---- */

static void stop_delivered(kv_mail *mail)
{
    kv_reactor *reactor = KV_CONTAINER(mail, kv_reactor, stop);

    /* Release: pairs with the acquire in kv_reactor_stop, which posts this mail again. */
    __atomic_store_n(&reactor->stopping, false, __ATOMIC_RELEASE);
    reactor->stopped = true;
}

int kv_reactor_init(kv_reactor *reactor, const kv_reactor_calls *calls, bool private)
{
    reactor->calls = calls;
    reactor->event_descriptor = private ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!private && reactor->event_descriptor < 0)
        return -errno;
    reactor->stop.deliver = stop_delivered;
    reactor->now_ns = kv_clock_ns();
    kv_list_init(&reactor->connected);
    kv_list_init(&reactor->closed);
    kv_list_init(&reactor->closed_listeners);
    kv_timer_wheel_init(&reactor->wheel, reactor->now_ns);
    return 0;
}

int kv_reactor_open(uint32_t driver, kv_reactor **reactor)
{
    switch (driver) {
    case KV_REACTOR_URING:
        return kv_reactor_uring_open(reactor);
    /* Over loopback on Linux 6.18, a lone small request costs the node 5 % less on epoll; with 8
     * connections busy or more, and for large values, neither is measurably the faster one. */
    case KV_REACTOR_AUTO:
    case KV_REACTOR_EPOLL:
        return kv_reactor_epoll_open(false, reactor);
    default:
        return -EINVAL;
    }
}

int kv_reactor_open_private(kv_reactor **reactor)
{
    /* A ring belongs to one thread, and a single waiting socket needs no ring. */
    return kv_reactor_epoll_open(true, reactor);
}

void kv_reactor_close(kv_reactor *reactor)
{
    assert(!kv_reactor_socket_due(reactor));
    kv_reactor_abandon(reactor);
    free(reactor);
}

void kv_reactor_abandon(kv_reactor *reactor)
{
    if (reactor->event_descriptor >= 0)
        close(reactor->event_descriptor);
    reactor->calls->close(reactor);
}

const char *kv_reactor_name(const kv_reactor *reactor)
{
    return reactor->calls->name;
}

/* ---- mail ---- */

static void wake(kv_reactor *reactor)
{
    uint64_t one = 1;
    ssize_t written;

    /* Nobody ever reads the counter: the drivers wait for its next change. */
    do
        written = write(reactor->event_descriptor, &one, sizeof(one));
    while (written < 0 && errno == EINTR);
    assert(written == sizeof(one));
}

void kv_reactor_post(kv_reactor *reactor, kv_mail *mail)
{
    kv_mail *latest = __atomic_load_n(&reactor->mail, __ATOMIC_RELAXED);

    assert(reactor->event_descriptor >= 0);
    assert(mail->deliver != NULL);
    do
        mail->next = latest == &reactor->asleep ? NULL : latest;
    /* Release: pairs with the acquire in take_mail, whose caller reads what the poster wrote. */
    while (!__atomic_compare_exchange_n(&reactor->mail, &latest, mail, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED));
    if (latest == &reactor->asleep)
        wake(reactor);
}

/* False: mail came first. A post after this finds `asleep`, and wakes the driver's wait. */
static bool fall_asleep(kv_reactor *reactor)
{
    kv_mail *none = NULL;

    if (reactor->event_descriptor < 0)
        return true;
    return __atomic_compare_exchange_n(&reactor->mail, &none, &reactor->asleep, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* The posts so far, oldest first. Also wakes up: from here on posts write no events. */
static kv_mail *take_mail(kv_reactor *reactor)
{
    kv_mail *mail;
    kv_mail *oldest = NULL;

    if (__atomic_load_n(&reactor->mail, __ATOMIC_RELAXED) == NULL)
        return NULL;
    /* Acquire: pairs with the release in kv_reactor_post. */
    mail = __atomic_exchange_n(&reactor->mail, NULL, __ATOMIC_ACQUIRE);
    while (mail != NULL && mail != &reactor->asleep) {
        kv_mail *earlier = mail->next;

        mail->next = oldest;
        oldest = mail;
        mail = earlier;
    }
    return oldest;
}

static uint32_t deliver(kv_mail *oldest)
{
    uint32_t count = 0;

    while (oldest != NULL) {
        kv_mail *mail = oldest;

        oldest = mail->next; /* before its memory is the poster's again */
        mail->deliver(mail);
        count++;
    }
    return count;
}

void kv_reactor_stop(kv_reactor *reactor)
{
    /* Acquire: pairs with the release in stop_delivered, after which the mail is free again. */
    if (!__atomic_exchange_n(&reactor->stopping, true, __ATOMIC_ACQUIRE))
        kv_reactor_post(reactor, &reactor->stop);
}

/* ---- turns ---- */

uint64_t kv_reactor_now_ns(const kv_reactor *reactor)
{
    return reactor->now_ns;
}

/* How long to sleep at most; 0 when there is something to do. */
static uint64_t sleep_ns(kv_reactor *reactor, uint64_t deadline_ns)
{
    uint64_t until = kv_timer_wheel_next_ns(&reactor->wheel);
    uint64_t now;

    if (until > deadline_ns)
        until = deadline_ns;
    if (until == 0 || kv_reactor_socket_due(reactor) || !fall_asleep(reactor))
        return 0;
    if (until == KV_REACTOR_FOREVER)
        return KV_REACTOR_FOREVER;
    now = kv_clock_ns();
    return until > now ? until - now : 0;
}

uint32_t kv_reactor_turn(kv_reactor *reactor, uint64_t deadline_ns)
{
    kv_mail *mail;
    uint32_t count;

    reactor->calls->wait(reactor, sleep_ns(reactor, deadline_ns));
    reactor->now_ns = kv_clock_ns();
    mail = take_mail(reactor);
    count = reactor->calls->dispatch(reactor);
    count += kv_reactor_socket_connects(reactor);
    count += deliver(mail);
    count += kv_timer_wheel_expire(&reactor->wheel, reactor->now_ns);
    count += kv_reactor_socket_closings(reactor);
    return count;
}

void kv_reactor_run(kv_reactor *reactor)
{
    while (!reactor->stopped)
        (void)kv_reactor_turn(reactor, KV_REACTOR_FOREVER);
    reactor->stopped = false;
}

/* ---- timers ---- */

void kv_timer_set(kv_reactor *reactor, kv_timer *timer, uint64_t due_ns)
{
    kv_timer_stop(reactor, timer);
    kv_timer_wheel_set(&reactor->wheel, timer, due_ns);
}

void kv_timer_stop(kv_reactor *reactor, kv_timer *timer)
{
    (void)reactor;
    if (kv_timer_is_set(timer))
        kv_list_remove(&timer->link);
}

bool kv_timer_is_set(const kv_timer *timer)
{
    return timer->link.next != NULL && !kv_list_empty(&timer->link);
}
