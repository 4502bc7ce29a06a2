/* Starts the threads of the drivers. Joining them is the drivers' own. */
#include "drivers/driver_thread.h"

#include <assert.h>
#include <signal.h>
#include <string.h>

#define THREAD_NAME_LENGTH_MAX 15u

int kv_driver_thread_start(const char *name, void *(*run)(void *), void *argument,
                           pthread_t *thread)
{
    sigset_t all;
    sigset_t before;
    int error;

    assert(strlen(name) <= THREAD_NAME_LENGTH_MAX);
    sigfillset(&all);
    /* A thread inherits the mask, so there is no moment in which it could take a signal. */
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error != 0)
        return -error;
    error = pthread_create(thread, NULL, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        (void)pthread_setname_np(*thread, name); /* A name is a help, not a need. */
    return -error;
}
