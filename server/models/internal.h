/* What the files of server/models/registry.h share; nobody else includes this. Each file calls only those above it in
 * this header:
 *
 *     entries.c     the list of names, and who holds which model
 *     swap.c        a model is loaded aside and put into its place
 *     describe.c    what clients are told of models
 *     registry.c    start and end, and the changes that clients ask for
 */
#ifndef LSTMD_SERVER_MODELS_INTERNAL_H
#define LSTMD_SERVER_MODELS_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "server/models/places.h"
#include "server/models/registry.h"

/* A name. Entries live as long as the registry, so a pointer to one needs no lock. */
struct registry_entry {
    LIST_ENTRY(registry_entry) link;
    char *name;
    uint64_t id;
    bool listed;                    /* the last look found a directory of this name */
    bool loading;                   /* for the first time */
    struct served *served;          /* NULL: not loaded */
    char error[ERROR_MESSAGE_SIZE]; /* of the last attempt to load it; "": none, or it succeeded */
};

struct registry {
    struct registry_options options;
    struct model_places places;
    struct worker *closer;               /* stops and frees what nobody uses any more */
    bool open;                           /* changes are logged; the daemon's first line has what the start loads */
    pthread_mutex_t changes;             /* taken before `mutex`, and for as long as a change takes */
    pthread_mutex_t mutex;               /* guards all below, and what struct served says; no lock is taken under it */
    LIST_HEAD(, registry_entry) entries; /* by name */
    uint64_t ids;
    struct registry_entry *standard; /* the default, which is loaded; NULL: there is none */
    LIST_HEAD(, served) alive;       /* all that are not freed */
    bool stopping;
};

/* ---- entries.c; registry.h has registry_acquire(), registry_release() and the loops over loaded models ---- */

bool registry_is_stopping(struct registry *registry);

/* NULL: there is none of that name. */
struct registry_entry *registry_entry_of(struct registry *registry, const char *name);

/* The first one after `entry`; NULL: the first of all. */
struct registry_entry *registry_next_entry(struct registry *registry, const struct registry_entry *entry);

/* The entry of that name, made where there is none. */
struct registry_entry *registry_add_entry(struct registry *registry, const char *name, struct error *err);

/* Looks which directories there are. */
bool registry_look(struct registry *registry, struct error *err);

/* Whether it is loaded or has a directory. */
bool registry_has(struct registry *registry, const struct registry_entry *entry);

/* ---- swap.c; with `changes` locked ---- */

/* Puts `served` (NULL: nothing) into the entry. The last request that uses the old model frees it. */
void swap_in(struct registry *registry, struct registry_entry *entry, struct served *served);

/* Loads the model and puts it into its place. Errors: those of registry_load(). */
bool swap_load(struct registry *registry, const char *name, struct error *err);

/* The entry, which is loaded, becomes the default of this process. */
void swap_set_default(struct registry *registry, struct registry_entry *entry);

#endif
