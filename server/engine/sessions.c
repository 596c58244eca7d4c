#include "server/engine/sessions.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

struct session {
    struct session *chain;             /* in its bucket */
    struct session *newer, *older;     /* in the list of idle ones, in the order of their ends */
    uint64_t model, version, ended_ns; /* version: what `state` is of, and `next` while busy */
    float *state;                      /* [state_size]; NULL: fresh */
    float *next;                       /* [state_size] while busy */
    uint32_t pending;
    bool busy;
    bool dropped; /* its version was, while it was busy */
    bool lost;    /* fresh, but was not */
    size_t name_size;
    char name[];
};

struct sessions {
    struct sessions_options options;
    size_t mask;
    pthread_mutex_t mutex; /* guards all below; no lock is taken under it */
    struct session **buckets;
    struct session *newest, *oldest;
    size_t count;
};

struct sessions *sessions_new(const struct sessions_options *options, struct error *err)
{
    struct sessions *sessions = calloc(1, sizeof *sessions);
    size_t buckets = 1;
    while (buckets < options->max_count) buckets *= 2;
    if (sessions) sessions->buckets = calloc(buckets, sizeof(struct session *));
    if (!sessions || !sessions->buckets) {
        error_set_no_memory(err, buckets * sizeof(struct session *), "sessions");
        free(sessions);
        return NULL;
    }
    sessions->options = *options;
    sessions->mask = buckets - 1;
    pthread_mutex_init(&sessions->mutex, NULL);
    return sessions;
}

static struct session **bucket_of(struct sessions *sessions, uint64_t model, const char *name, size_t size)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325) ^ model; /* FNV-1a, 64 bits */
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001B3);
    return &sessions->buckets[(hash ^ hash >> 32) & sessions->mask];
}

static struct session *sessions_find(struct sessions *sessions, uint64_t model, const char *name, size_t size)
{
    struct session *session = *bucket_of(sessions, model, name, size);
    while (session && (session->model != model || session->name_size != size || memcmp(session->name, name, size) != 0))
        session = session->chain;
    return session;
}

static void list_remove(struct sessions *sessions, struct session *session)
{
    *(session->newer ? &session->newer->older : &sessions->newest) = session->older;
    *(session->older ? &session->older->newer : &sessions->oldest) = session->newer;
    session->newer = session->older = NULL;
}

static void list_add(struct sessions *sessions, struct session *session)
{
    session->older = sessions->newest;
    *(session->older ? &session->older->newer : &sessions->oldest) = session;
    sessions->newest = session;
}

/* Not in the list. */
static void sessions_forget(struct sessions *sessions, struct session *session)
{
    struct session **link = bucket_of(sessions, session->model, session->name, session->name_size);
    while (*link != session) link = &(*link)->chain;
    *link = session->chain;
    sessions->count--;
    free(session->state);
    free(session->next);
    free(session);
}

static void forget_oldest(struct sessions *sessions)
{
    struct session *session = sessions->oldest;
    assert(!session->older);
    list_remove(sessions, session);
    sessions_forget(sessions, session);
}

static void forget_expired(struct sessions *sessions, uint64_t now_ns)
{
    while (sessions->oldest && now_ns >= sessions->oldest->ended_ns + sessions->options.ttl_ns) forget_oldest(sessions);
}

void sessions_free(struct sessions *sessions)
{
    if (!sessions) return;
    while (sessions->oldest) forget_oldest(sessions);
    pthread_mutex_destroy(&sessions->mutex);
    free(sessions->buckets);
    free(sessions);
}

static bool check_name(const struct sessions *sessions, const char *name, size_t size, struct error *err)
{
    if (size < 1 || size > sessions->options.max_name)
        return error_set(err, ERROR_INVALID, "a session's name has 1 to %zu bytes", sessions->options.max_name);
    for (size_t i = 0; i < size; i++) {
        const char c = name[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && !memchr("._:@/-", c, 6))
            return error_set(err, ERROR_INVALID, "a session's name has letters, digits and ._:@/- only");
    }
    return true;
}

/* A fresh session in its bucket, where there is room or can be made. */
static struct session *sessions_add(struct sessions *sessions, const struct session_key *key, struct error *err)
{
    if (sessions->count >= sessions->options.max_count) {
        if (!sessions->oldest) {
            error_set(err, ERROR_UNAVAILABLE, "%zu sessions are in use; try again later", sessions->count);
            return NULL;
        }
        forget_oldest(sessions);
    }
    struct session *session = calloc(1, sizeof *session + key->name_size);
    if (!session) {
        error_set_no_memory(err, sizeof *session + key->name_size, "a session");
        return NULL;
    }
    session->model = key->model;
    session->name_size = key->name_size;
    memcpy(session->name, key->name, key->name_size);
    struct session **bucket = bucket_of(sessions, key->model, key->name, key->name_size);
    session->chain = *bucket;
    *bucket = session;
    sessions->count++;
    return session;
}

/* Frees the state, which is of no use any more, and notes that it was lost. The caller holds the mutex. */
static void sessions_lose(struct session *session)
{
    session->lost = session->lost || session->state;
    free(session->state);
    session->state = NULL;
}

/* The caller holds the mutex. next: room for the next state; the session owns it on success. */
static struct session *sessions_begin_locked(struct sessions *sessions, const struct session_key *key, float *next,
                                             struct error *err)
{
    struct session *session = sessions_find(sessions, key->model, key->name, key->name_size);
    if (session && session->busy) {
        error_set(err, ERROR_CONFLICT, "another request is using the session \"%.*s\"", (int)key->name_size, key->name);
        return NULL;
    }
    if (session)
        list_remove(sessions, session);
    else
        session = sessions_add(sessions, key, err);
    if (!session) return NULL;
    if (session->version != key->version) sessions_lose(session);
    session->version = key->version;
    session->busy = true;
    session->next = next;
    return session;
}

struct session *sessions_begin(struct sessions *sessions, const struct session_key *key, uint64_t now_ns,
                               struct error *err)
{
    if (!check_name(sessions, key->name, key->name_size, err)) return NULL;
    size_t bytes;
    float *next = size_multiply(key->state_size, sizeof *next, &bytes) ? malloc(bytes) : NULL;
    if (!next) {
        error_set_no_memory(err, key->state_size * sizeof *next, "a session's state");
        return NULL;
    }
    pthread_mutex_lock(&sessions->mutex);
    forget_expired(sessions, now_ns);
    struct session *session = sessions_begin_locked(sessions, key, next, err);
    pthread_mutex_unlock(&sessions->mutex);
    if (!session) free(next);
    return session;
}

bool session_is_fresh(const struct session *session)
{
    return !session->state;
}

bool session_was_lost(const struct session *session)
{
    return !session->state && session->lost;
}

const float *session_state(const struct session *session)
{
    return session->state;
}

uint32_t session_pending(const struct session *session)
{
    return session->pending;
}

float *session_next_state(struct session *session)
{
    return session->next;
}

void sessions_end(struct sessions *sessions, struct session *session, bool keep, uint32_t pending, uint64_t now_ns)
{
    pthread_mutex_lock(&sessions->mutex);
    float *unused = keep ? session->state : session->next;
    if (keep) {
        session->state = session->next;
        session->pending = pending;
        session->lost = false;
    }
    session->next = NULL;
    session->busy = false;
    session->ended_ns = now_ns;
    if (session->dropped) sessions_lose(session);
    session->dropped = false;
    if (!session->state && !session->lost)
        sessions_forget(sessions, session);
    else
        list_add(sessions, session);
    forget_expired(sessions, now_ns);
    pthread_mutex_unlock(&sessions->mutex);
    free(unused);
}

void sessions_drop_version(struct sessions *sessions, uint64_t version)
{
    pthread_mutex_lock(&sessions->mutex);
    for (size_t i = 0; i <= sessions->mask; i++) {
        for (struct session *session = sessions->buckets[i]; session; session = session->chain) {
            if (session->version != version) continue;
            if (session->busy)
                session->dropped = true;
            else
                sessions_lose(session);
        }
    }
    pthread_mutex_unlock(&sessions->mutex);
}

size_t sessions_count(struct sessions *sessions)
{
    pthread_mutex_lock(&sessions->mutex);
    const size_t count = sessions->count;
    pthread_mutex_unlock(&sessions->mutex);
    return count;
}
