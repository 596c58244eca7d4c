#include "server/throttle.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PLACES        1024
#define FREE_FAILURES 9
#define MOST_DOUBLED  6 /* 64 seconds */
#define SECOND_NS     UINT64_C(1000000000)
#define FORGET_NS     (600 * SECOND_NS)

struct client {
    unsigned char network[8];
    unsigned failures; /* 0: the place is free */
    uint64_t last_ns;  /* the last failure */
};

struct throttle {
    pthread_mutex_t lock; /* guards everything below */
    size_t used;          /* places that are not free are among the first `used` */
    struct client clients[PLACES];
};

struct throttle *throttle_new(struct error *err)
{
    struct throttle *throttle = calloc(1, sizeof *throttle);
    if (throttle)
        pthread_mutex_init(&throttle->lock, NULL);
    else
        error_set_no_memory(err, sizeof *throttle, "failed attempts");
    return throttle;
}

void throttle_free(struct throttle *throttle)
{
    if (!throttle) return;
    pthread_mutex_destroy(&throttle->lock);
    free(throttle);
}

/* The first 64 bits of an IPv6 address, or all of an IPv4 address, also where it is written as IPv6. */
static void network_of(const char *address, unsigned char network[8])
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    unsigned char bytes[16];
    memset(network, 0, 8);
    if (inet_pton(AF_INET, address, network + 4) == 1 || inet_pton(AF_INET6, address, bytes) != 1) return;
    if (memcmp(bytes, mapped, sizeof mapped) == 0)
        memcpy(network + 4, bytes + 12, 4);
    else
        memcpy(network, bytes, 8);
}

static bool is_forgotten(const struct client *client, uint64_t now_ns)
{
    return client->failures == 0 || now_ns >= client->last_ns + FORGET_NS;
}

static struct client *find(struct throttle *throttle, const unsigned char network[8], uint64_t now_ns)
{
    for (size_t i = 0; i < throttle->used; i++) {
        struct client *client = &throttle->clients[i];
        if (memcmp(client->network, network, 8) == 0 && !is_forgotten(client, now_ns)) return client;
    }
    return NULL;
}

/* A place for a new address: a free one, else that of the address whose last failure is the oldest. */
static struct client *take_place(struct throttle *throttle, uint64_t now_ns)
{
    struct client *oldest = &throttle->clients[0];
    for (size_t i = 0; i < throttle->used; i++) {
        struct client *client = &throttle->clients[i];
        if (is_forgotten(client, now_ns)) return client;
        if (client->last_ns < oldest->last_ns) oldest = client;
    }
    return throttle->used < PLACES ? &throttle->clients[throttle->used++] : oldest;
}

static unsigned seconds_left(const struct client *client, uint64_t now_ns)
{
    if (!client || client->failures <= FREE_FAILURES) return 0;
    const unsigned doubled = client->failures - FREE_FAILURES - 1;
    const uint64_t until = client->last_ns + (SECOND_NS << (doubled < MOST_DOUBLED ? doubled : MOST_DOUBLED));
    return now_ns < until ? (unsigned)((until - now_ns + SECOND_NS - 1) / SECOND_NS) : 0;
}

unsigned throttle_wait(struct throttle *throttle, const char *address, uint64_t now_ns)
{
    unsigned char network[8];
    network_of(address, network);
    pthread_mutex_lock(&throttle->lock);
    const unsigned seconds = seconds_left(find(throttle, network, now_ns), now_ns);
    pthread_mutex_unlock(&throttle->lock);
    return seconds;
}

unsigned throttle_failed(struct throttle *throttle, const char *address, uint64_t now_ns)
{
    unsigned char network[8];
    network_of(address, network);
    pthread_mutex_lock(&throttle->lock);
    struct client *client = find(throttle, network, now_ns);
    if (!client) {
        client = take_place(throttle, now_ns);
        client->failures = 0;
        memcpy(client->network, network, 8);
    }
    client->failures++;
    client->last_ns = now_ns;
    const unsigned seconds = seconds_left(client, now_ns);
    pthread_mutex_unlock(&throttle->lock);
    return seconds;
}
