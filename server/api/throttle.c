#include "server/api/throttle.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PLACES       1024
#define MOST_DOUBLED 6 /* 64 seconds */
#define SECOND_NS    UINT64_C(1000000000)
#define FORGET_NS    (600 * SECOND_NS)
#define KNOWN_NS     (24 * 3600 * SECOND_NS)
#define GUESS_NS     (SECOND_NS / 10) /* each failure takes so much of everybody's time */
#define GUESSES      1000             /* so many failures may take it in advance */

struct network {
    unsigned char bytes[8];
};

struct client {
    struct network network;
    unsigned failures; /* 0: the place is free */
    uint64_t last_ns;  /* the last failure */
};

struct clients {
    size_t used; /* places that are not free are among the first `used` */
    struct client places[PLACES];
};

/* Of an address, from the narrowest on. */
static const struct {
    size_t bytes;  /* of an IPv6 address; an IPv4 address counts in the first row alone */
    unsigned free; /* failures */
} levels[] = {{8, 9}, {6, 99}};

#define LEVELS (sizeof levels / sizeof *levels)

struct throttle {
    pthread_mutex_t lock; /* guards everything below */
    struct clients clients[LEVELS];
    uint64_t taken_ns; /* until when everybody's time is taken */
    struct known {
        struct network network;
        uint64_t until_ns;
    } known[PLACES]; /* by a hash of the network; the last one has the place */
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

struct networks {
    struct network items[LEVELS];
    size_t count;
};

/* An IPv4 address is one also where it is written as IPv6. */
static struct networks networks_of(const char *address)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    struct networks networks = {.count = 1};
    unsigned char bytes[16], *first = networks.items[0].bytes;
    if (inet_pton(AF_INET, address, first + 4) == 1 || inet_pton(AF_INET6, address, bytes) != 1) return networks;
    if (memcmp(bytes, mapped, sizeof mapped) == 0) {
        memcpy(first + 4, bytes + 12, 4);
        return networks;
    }
    networks.count = LEVELS;
    for (size_t i = 0; i < LEVELS; i++) memcpy(networks.items[i].bytes, bytes, levels[i].bytes);
    return networks;
}

static bool is_same(const struct network *a, const struct network *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* --- Who has failed --- */

static bool is_forgotten(const struct client *client, uint64_t now_ns)
{
    return client->failures == 0 || now_ns >= client->last_ns + FORGET_NS;
}

static struct client *throttle_find(struct clients *clients, const struct network *network, uint64_t now_ns)
{
    for (size_t i = 0; i < clients->used; i++) {
        struct client *client = &clients->places[i];
        if (is_same(&client->network, network) && !is_forgotten(client, now_ns)) return client;
    }
    return NULL;
}

static bool gives_way(const struct client *client, const struct client *other)
{
    return client->failures < other->failures ||
           (client->failures == other->failures && client->last_ns < other->last_ns);
}

/* A place for a new address: a free one, else that of the address with the fewest failures, which the new one takes
 * over. (Metwally, Agrawal, El Abbadi: Efficient computation of frequent and top-k elements in data streams, 2005: no
 * count is ever less than what the address has deserved.) */
static struct client *take_place(struct clients *clients, uint64_t now_ns)
{
    struct client *fewest = &clients->places[0];
    for (size_t i = 0; i < clients->used; i++) {
        struct client *client = &clients->places[i];
        if (is_forgotten(client, now_ns)) {
            client->failures = 0;
            return client;
        }
        if (gives_way(client, fewest)) fewest = client;
    }
    return clients->used < PLACES ? &clients->places[clients->used++] : fewest;
}

static void count_failure(struct clients *clients, const struct network *network, uint64_t now_ns)
{
    struct client *client = throttle_find(clients, network, now_ns);
    if (!client) client = take_place(clients, now_ns);
    client->network = *network;
    client->failures++;
    client->last_ns = now_ns;
}

static unsigned seconds_left(const struct client *client, unsigned free_failures, uint64_t now_ns)
{
    if (!client || client->failures <= free_failures) return 0;
    const unsigned doubled = client->failures - free_failures - 1;
    const uint64_t until = client->last_ns + (SECOND_NS << (doubled < MOST_DOUBLED ? doubled : MOST_DOUBLED));
    return now_ns < until ? (unsigned)((until - now_ns + SECOND_NS - 1) / SECOND_NS) : 0;
}

/* --- Everybody together --- */

static struct known *known_place(struct throttle *throttle, const struct network *network)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a, 64 bits */
    for (size_t i = 0; i < sizeof network->bytes; i++) hash = (hash ^ network->bytes[i]) * UINT64_C(0x100000001B3);
    return &throttle->known[(hash ^ hash >> 32) % PLACES];
}

/* Addresses without a right token wait while all together have failed too often. */
static bool is_shut_out(struct throttle *throttle, const struct network *network, uint64_t now_ns)
{
    const struct known *known = known_place(throttle, network);
    const bool is_known = is_same(&known->network, network) && now_ns < known->until_ns;
    return throttle->taken_ns + GUESS_NS > now_ns + GUESSES * GUESS_NS && !is_known;
}

static void take_time(struct throttle *throttle, uint64_t now_ns)
{
    const uint64_t most = now_ns + GUESSES * GUESS_NS;
    throttle->taken_ns = (throttle->taken_ns > now_ns ? throttle->taken_ns : now_ns) + GUESS_NS;
    if (throttle->taken_ns > most) throttle->taken_ns = most;
}

/* --- Calls --- */

static unsigned wait_of(struct throttle *throttle, const struct networks *networks, uint64_t now_ns)
{
    unsigned longest = is_shut_out(throttle, &networks->items[0], now_ns) ? 1 : 0;
    for (size_t i = 0; i < networks->count; i++) {
        const struct client *client = throttle_find(&throttle->clients[i], &networks->items[i], now_ns);
        const unsigned seconds = seconds_left(client, levels[i].free, now_ns);
        if (seconds > longest) longest = seconds;
    }
    return longest;
}

unsigned throttle_wait(struct throttle *throttle, const char *address, uint64_t now_ns)
{
    const struct networks networks = networks_of(address);
    pthread_mutex_lock(&throttle->lock);
    const unsigned seconds = wait_of(throttle, &networks, now_ns);
    pthread_mutex_unlock(&throttle->lock);
    return seconds;
}

unsigned throttle_failed(struct throttle *throttle, const char *address, uint64_t now_ns)
{
    const struct networks networks = networks_of(address);
    pthread_mutex_lock(&throttle->lock);
    for (size_t i = 0; i < networks.count; i++) count_failure(&throttle->clients[i], &networks.items[i], now_ns);
    take_time(throttle, now_ns);
    const unsigned seconds = wait_of(throttle, &networks, now_ns);
    pthread_mutex_unlock(&throttle->lock);
    return seconds;
}

void throttle_succeeded(struct throttle *throttle, const char *address, uint64_t now_ns)
{
    const struct networks networks = networks_of(address);
    pthread_mutex_lock(&throttle->lock);
    *known_place(throttle, &networks.items[0]) = (struct known){networks.items[0], now_ns + KNOWN_NS};
    pthread_mutex_unlock(&throttle->lock);
}
