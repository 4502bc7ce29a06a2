/* A thread of a driver: it takes no signals, which belong to the application, and has a name. */
#ifndef KV_DRIVER_THREAD_H
#define KV_DRIVER_THREAD_H

#include <pthread.h>

/* `name` has at most 15 characters. 0 or a negative errno. */
int kv_driver_thread_start(const char *name, void *(*run)(void *), void *argument,
                           pthread_t *thread);

#endif
