/* The prefix cache: hidden states by model version and token prefix, least recently used out first, bounded in bytes.
 *
 * The states of a model hang in a radix tree: a node stands for the tokens on the way to it and may hold the state
 * after them. Lookup walks the tree along the prompt and takes the deepest state on its way, so a hit is the longest
 * cached prefix; tokens are compared, not hashes of them, so it is exact whatever a client sends. Tokens that prefixes
 * share are stored once (a 100 kB prompt with a hundred states costs its tokens once), in 1, 2 or 4 bytes each, as the
 * vocabulary needs. The children of all nodes are in one hash table by (node, first token); a step down is one probe.
 *
 * Bytes are those of states, tokens, nodes and their allocations. Nodes that lost their state stay, and count, as long
 * as there is a state below them.
 *
 * Thread-safe; one lock, held for a walk and a copy of one state, never while anything is computed. States are copied
 * in and out. A model that was not added, or was dropped, has no states and takes none: a late job of an old model
 * cannot put anything back.
 */
#ifndef LSTMD_SERVER_ENGINE_STATE_CACHE_H
#define LSTMD_SERVER_ENGINE_STATE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct state_cache;

/* max_bytes 0: caches nothing. */
struct state_cache *state_cache_new(size_t max_bytes, struct error *err);
void state_cache_free(struct state_cache *cache); /* NULL allowed */

/* model: a version number that was never used before. state_size: floats. */
bool state_cache_add_model(struct state_cache *cache, uint64_t model, size_t state_size, uint32_t vocabulary_size,
                           struct error *err);
/* Forgets what belongs to the model, a slice at a time, so that nobody waits for all of it. No-op for one not there. */
void state_cache_drop_model(struct state_cache *cache, uint64_t model);

/* Copies the state after the longest cached prefix of tokens[0..n) to `state` and returns that prefix's length; 0 where
 * there is none (state untouched). */
size_t state_cache_find(struct state_cache *cache, uint64_t model, const uint32_t *tokens, size_t n, float *state);

/* Keeps a copy of the state after tokens[0..n), n >= 1, where memory and max_bytes allow. */
void state_cache_store(struct state_cache *cache, uint64_t model, const uint32_t *tokens, size_t n, const float *state);

struct state_cache_numbers {
    size_t states, bytes;
    uint64_t hits, misses, evictions;
};
struct state_cache_numbers state_cache_numbers(struct state_cache *cache);

#endif
