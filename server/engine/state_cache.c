#include "server/engine/state_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define ALLOCATION_COST   16  /* what malloc adds to a block */
#define BYTES_PER_BUCKET  256 /* of max_bytes: a node with a small state and its tokens */
#define DROPPED_PER_SLICE 256 /* states that are freed under one lock */

struct node {
    struct node *parent, *chain; /* chain: the next one in its bucket */
    struct node *newer, *older;  /* in the list of the model's states */
    float *state;                /* [state_size] or NULL */
    unsigned char *tokens;       /* [count], from the parent to here */
    uint64_t used;               /* the cache's `uses` when the state was stored or found last */
    uint32_t first, children;    /* tokens[0]; nodes whose parent this is */
    size_t count;
};

struct model_states {
    struct model_states *next;
    uint64_t version;
    size_t state_bytes, token_bytes; /* of a state; of a token: 1, 2 or 4 */
    struct node root;
    struct node *newest, *oldest;
    bool dropped;
};

struct state_cache {
    size_t max_bytes;
    struct node **buckets; /* children by (parent, first token); as many as max_bytes can need, so never rehashed */
    size_t mask;
    pthread_mutex_t mutex; /* guards all below, the buckets and the nodes; no lock is taken under it */
    struct model_states *models;
    uint64_t uses;
    struct state_cache_numbers numbers;
};

struct state_cache *state_cache_new(size_t max_bytes, struct error *err)
{
    struct state_cache *cache = calloc(1, sizeof *cache);
    size_t buckets = 1;
    while (buckets < max_bytes / BYTES_PER_BUCKET) buckets *= 2;
    if (cache) cache->buckets = calloc(buckets, sizeof(struct node *)); /* pages are taken when they are touched */
    if (!cache || !cache->buckets) {
        error_set_no_memory(err, buckets * sizeof(struct node *), "the prefix cache");
        free(cache);
        return NULL;
    }
    cache->max_bytes = max_bytes;
    cache->mask = buckets - 1;
    pthread_mutex_init(&cache->mutex, NULL);
    return cache;
}

/* --- Tokens in as few bytes as the vocabulary needs --- */

static size_t bytes_per_token(uint32_t vocabulary_size)
{
    return vocabulary_size <= 1u << 8 ? 1 : vocabulary_size <= 1u << 16 ? 2 : 4;
}

static void state_cache_pack(unsigned char *out, const uint32_t *tokens, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++)
        for (size_t byte = 0; byte < width; byte++) out[i * width + byte] = (unsigned char)(tokens[i] >> 8 * byte);
}

static uint32_t unpack(const unsigned char *packed, size_t width)
{
    uint32_t token = 0;
    for (size_t byte = 0; byte < width; byte++) token |= (uint32_t)packed[byte] << 8 * byte;
    return token;
}

/* How many of n tokens are the packed ones. The common width has its own loop: a long prompt is compared under the
 * lock. */
static size_t state_cache_common(const unsigned char *packed, const uint32_t *tokens, size_t n, size_t width)
{
    size_t i = 0;
    if (width == 1)
        while (i < n && packed[i] == tokens[i]) i++;
    else
        while (i < n && unpack(packed + i * width, width) == tokens[i]) i++;
    return i;
}

/* --- The tree --- */

static struct node **bucket_of(const struct state_cache *cache, const struct node *parent, uint32_t first)
{
    /* The finalizer of splitmix64; addresses differ in few bits. */
    uint64_t x = (uint64_t)(uintptr_t)parent ^ (uint64_t)first * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return &cache->buckets[(x ^ x >> 31) & cache->mask];
}

static struct node *child_of(const struct state_cache *cache, const struct node *parent, uint32_t first)
{
    struct node *node = *bucket_of(cache, parent, first);
    while (node && (node->parent != parent || node->first != first)) node = node->chain;
    return node;
}

static void link_child(struct state_cache *cache, struct node *parent, struct node *child)
{
    struct node **bucket = bucket_of(cache, parent, child->first);
    child->parent = parent;
    child->chain = *bucket;
    *bucket = child;
    parent->children++;
}

static void unlink_child(struct state_cache *cache, struct node *child)
{
    struct node **link = bucket_of(cache, child->parent, child->first);
    while (*link != child) link = &(*link)->chain;
    *link = child->chain;
    child->parent->children--;
}

static size_t cost_of_node(const struct model_states *model, size_t tokens)
{
    return sizeof(struct node) + tokens * model->token_bytes + 2 * ALLOCATION_COST;
}

static size_t cost_of_state(const struct model_states *model)
{
    return model->state_bytes + ALLOCATION_COST;
}

/* A node below `parent`, or NULL where memory is out. packed: NULL, or what to copy instead of `tokens`. */
static struct node *add_node(struct state_cache *cache, const struct model_states *model, const uint32_t *tokens,
                             const unsigned char *packed, size_t n)
{
    assert(n > 0 && model->token_bytes > 0);
    struct node *node = calloc(1, sizeof *node);
    unsigned char *bytes = node ? malloc(n * model->token_bytes) : NULL;
    if (!bytes) {
        free(node);
        return NULL;
    }
    if (packed)
        memcpy(bytes, packed, n * model->token_bytes);
    else
        state_cache_pack(bytes, tokens, n, model->token_bytes);
    node->tokens = bytes;
    node->count = n;
    node->first = unpack(bytes, model->token_bytes);
    cache->numbers.bytes += cost_of_node(model, n);
    return node;
}

/* A node after the first n tokens of the way to `node`, between it and its parent; NULL where memory is out. */
static struct node *state_cache_split(struct state_cache *cache, const struct model_states *model, struct node *node,
                                      size_t n)
{
    const size_t width = model->token_bytes, rest = node->count - n;
    struct node *upper = add_node(cache, model, NULL, node->tokens, n);
    if (!upper) return NULL;
    struct node *parent = node->parent;
    unlink_child(cache, node);
    memmove(node->tokens, node->tokens + n * width, rest * width);
    unsigned char *shorter = realloc(node->tokens, rest * width);
    if (shorter) node->tokens = shorter;
    node->count = rest;
    node->first = unpack(node->tokens, width);
    cache->numbers.bytes -= n * width;
    link_child(cache, parent, upper);
    link_child(cache, upper, node);
    return upper;
}

/* Removes nodes that hold nothing and lead nowhere, from `node` towards the root. */
static void state_cache_prune(struct state_cache *cache, struct model_states *model, struct node *node)
{
    while (node != &model->root && !node->state && node->children == 0) {
        struct node *parent = node->parent;
        unlink_child(cache, node);
        cache->numbers.bytes -= cost_of_node(model, node->count);
        free(node->tokens);
        free(node);
        node = parent;
    }
}

/* --- Order of use --- */

static void list_remove(struct model_states *model, struct node *node)
{
    *(node->newer ? &node->newer->older : &model->newest) = node->older;
    *(node->older ? &node->older->newer : &model->oldest) = node->newer;
    node->newer = node->older = NULL;
}

static void list_add(struct state_cache *cache, struct model_states *model, struct node *node)
{
    node->used = ++cache->uses;
    node->older = model->newest;
    *(node->older ? &node->older->newer : &model->oldest) = node;
    model->newest = node;
}

static void state_cache_touch(struct state_cache *cache, struct model_states *model, struct node *node)
{
    list_remove(model, node);
    list_add(cache, model, node);
}

static void state_cache_forget(struct state_cache *cache, struct model_states *model, struct node *node)
{
    list_remove(model, node);
    free(node->state);
    node->state = NULL;
    cache->numbers.states--;
    cache->numbers.bytes -= cost_of_state(model);
    state_cache_prune(cache, model, node);
}

/* Frees the least recently used states until the rest fits. */
static void state_cache_evict(struct state_cache *cache)
{
    while (cache->numbers.bytes > cache->max_bytes) {
        struct model_states *victim = NULL;
        for (struct model_states *model = cache->models; model; model = model->next)
            if (model->oldest && (!victim || model->oldest->used < victim->oldest->used)) victim = model;
        if (!victim) return;
        state_cache_forget(cache, victim, victim->oldest);
        cache->numbers.evictions++;
    }
}

/* --- Models --- */

static struct model_states *find_model(const struct state_cache *cache, uint64_t version)
{
    struct model_states *model = cache->models;
    while (model && model->version != version) model = model->next;
    return model && !model->dropped ? model : NULL;
}

bool state_cache_add_model(struct state_cache *cache, uint64_t model, size_t state_size, uint32_t vocabulary_size,
                           struct error *err)
{
    struct model_states *states = calloc(1, sizeof *states);
    size_t bytes;
    if (!states || !size_multiply(state_size, sizeof(float), &bytes)) {
        free(states);
        return error_set_no_memory(err, sizeof *states, "the prefix cache of a model");
    }
    states->version = model;
    states->state_bytes = bytes;
    states->token_bytes = bytes_per_token(vocabulary_size);
    pthread_mutex_lock(&cache->mutex);
    states->next = cache->models;
    cache->models = states;
    pthread_mutex_unlock(&cache->mutex);
    return true;
}

/* Frees some of the states of a model that is being dropped; true once there are none. */
static bool drop_slice(struct state_cache *cache, struct model_states *model)
{
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < DROPPED_PER_SLICE && model->oldest; i++) state_cache_forget(cache, model, model->oldest);
    const bool empty = !model->oldest;
    if (empty) {
        struct model_states **link = &cache->models;
        while (*link != model) link = &(*link)->next;
        *link = model->next;
    }
    pthread_mutex_unlock(&cache->mutex);
    return empty;
}

void state_cache_drop_model(struct state_cache *cache, uint64_t model)
{
    pthread_mutex_lock(&cache->mutex);
    struct model_states *states = find_model(cache, model);
    if (states) states->dropped = true;
    pthread_mutex_unlock(&cache->mutex);
    if (!states) return;
    while (!drop_slice(cache, states)) continue;
    free(states);
}

void state_cache_free(struct state_cache *cache)
{
    if (!cache) return;
    while (cache->models) state_cache_drop_model(cache, cache->models->version);
    pthread_mutex_destroy(&cache->mutex);
    free(cache->buckets);
    free(cache);
}

/* --- Finding and storing --- */

/* How far tokens lead: the last node on the way, the tokens up to it, and how many tokens of its child `next` (NULL:
 * none) are the same. */
struct walk {
    struct node *node, *next;
    size_t depth, into;
    struct node *deepest; /* with a state */
    size_t deepest_depth;
};

static struct walk state_cache_walk(const struct state_cache *cache, struct model_states *model, const uint32_t *tokens,
                                    size_t n)
{
    struct walk at = {.node = &model->root};
    while (at.depth < n) {
        const size_t left = n - at.depth;
        at.next = child_of(cache, at.node, tokens[at.depth]);
        if (!at.next) break;
        const size_t most = at.next->count < left ? at.next->count : left;
        at.into = state_cache_common(at.next->tokens, tokens + at.depth, most, model->token_bytes);
        if (at.into < at.next->count) break;
        at.depth += at.into;
        at.node = at.next;
        at.next = NULL;
        if (!at.node->state) continue;
        at.deepest = at.node;
        at.deepest_depth = at.depth;
    }
    return at;
}

size_t state_cache_find(struct state_cache *cache, uint64_t model, const uint32_t *tokens, size_t n, float *state)
{
    size_t covered = 0;
    pthread_mutex_lock(&cache->mutex);
    struct model_states *states = find_model(cache, model);
    if (states) {
        const struct walk at = state_cache_walk(cache, states, tokens, n);
        if (at.deepest) {
            state_cache_touch(cache, states, at.deepest);
            memcpy(state, at.deepest->state, states->state_bytes);
            covered = at.deepest_depth;
        }
        if (covered > 0)
            cache->numbers.hits++;
        else
            cache->numbers.misses++;
    }
    pthread_mutex_unlock(&cache->mutex);
    return covered;
}

/* The node after exactly these tokens, made where there is none; NULL where memory is out. */
static struct node *make_way(struct state_cache *cache, struct model_states *model, const uint32_t *tokens, size_t n)
{
    struct walk at = state_cache_walk(cache, model, tokens, n);
    if (at.next) {
        at.node = state_cache_split(cache, model, at.next, at.into);
        at.depth += at.into;
    }
    if (!at.node || at.depth == n) return at.node;
    struct node *leaf = add_node(cache, model, tokens + at.depth, NULL, n - at.depth);
    if (leaf)
        link_child(cache, at.node, leaf);
    else
        state_cache_prune(cache, model, at.node);
    return leaf;
}

static void state_cache_put(struct state_cache *cache, struct model_states *model, const uint32_t *tokens, size_t n,
                            const float *state)
{
    const size_t width = model->token_bytes;
    size_t most;
    if (!size_multiply(n, width, &most) || !size_add(most, cost_of_node(model, 0) + cost_of_state(model), &most) ||
        most > cache->max_bytes)
        return;
    struct node *node = make_way(cache, model, tokens, n);
    if (!node) return;
    if (node->state) {
        state_cache_touch(cache, model, node);
        return;
    }
    node->state = malloc(model->state_bytes);
    if (!node->state) {
        state_cache_prune(cache, model, node);
        return;
    }
    memcpy(node->state, state, model->state_bytes);
    list_add(cache, model, node);
    cache->numbers.states++;
    cache->numbers.bytes += cost_of_state(model);
    state_cache_evict(cache);
}

void state_cache_store(struct state_cache *cache, uint64_t model, const uint32_t *tokens, size_t n, const float *state)
{
    pthread_mutex_lock(&cache->mutex);
    struct model_states *states = find_model(cache, model);
    if (states && n > 0) state_cache_put(cache, states, tokens, n, state);
    pthread_mutex_unlock(&cache->mutex);
}

struct state_cache_numbers state_cache_numbers(struct state_cache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    const struct state_cache_numbers numbers = cache->numbers;
    pthread_mutex_unlock(&cache->mutex);
    return numbers;
}
