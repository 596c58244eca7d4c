/* Shared by the files behind server/models/registry.h; no other file includes it. Each file calls only those above it
 * in this list:
 *
 *     entries.c     the list of names, and the references to models
 *     swap.c        loads a model aside and puts it into its place
 *     describe.c    descriptions for clients
 *     registry.c    start and end, and the changes that clients ask for
 */
#ifndef LSTMD_SERVER_MODELS_INTERNAL_H
#define LSTMD_SERVER_MODELS_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "server/models/places.h"
#include "server/models/registry.h"

/* A name of a model. Entries live as long as the registry, so holding a pointer to one needs no lock. */
struct registry_entry {
    LIST_ENTRY(registry_entry) link;
    char *name;
    uint64_t id;
    bool listed;                    /* the last registry_look() found a directory of this name */
    bool loading;                   /* for the first time */
    struct served *served;          /* NULL: not loaded */
    char error[ERROR_MESSAGE_SIZE]; /* of the last attempt to load it; "": no attempt, or it succeeded */
};

struct registry {
    struct registry_options options;
    struct model_places places;
    struct worker *closer; /* stops and frees models that nobody uses any more */
    bool open; /* true after the start: changes are logged; the daemon's first log line has the models of the start */
    pthread_mutex_t changes; /* held during a whole change; locked before `mutex` */
    pthread_mutex_t mutex;   /* guards all below and the fields that struct served names; no lock is taken under it */
    LIST_HEAD(, registry_entry) entries; /* by name */
    uint64_t ids;
    struct registry_entry *standard; /* the default, always loaded; NULL: there is none */
    LIST_HEAD(, served) alive;       /* all loads that are not freed yet */
    bool stopping;
};

/* ---- entries.c; registry.h has registry_acquire(), registry_release() and the loops over loaded models ---- */

bool registry_is_stopping(struct registry *registry);

/* The entry of that name, or NULL. */
struct registry_entry *registry_entry_of(struct registry *registry, const char *name);

/* The entry after `entry`; after NULL: the first one. */
struct registry_entry *registry_next_entry(struct registry *registry, const struct registry_entry *entry);

/* The entry of that name; it is made if there is none. */
struct registry_entry *registry_add_entry(struct registry *registry, const char *name, struct error *err);

/* Reads which model directories exist. */
bool registry_look(struct registry *registry, struct error *err);

/* Whether it is loaded or has a directory. */
bool registry_has(struct registry *registry, const struct registry_entry *entry);

/* ---- swap.c; with `changes` locked ---- */

/* Puts `served` (NULL: nothing) into the entry. The old model ends when the last request releases it. */
void swap_in(struct registry *registry, struct registry_entry *entry, struct served *served);

/* Loads the model and puts it into its place. Errors: those of registry_load(). */
bool swap_load(struct registry *registry, const char *name, struct error *err);

/* Makes the loaded entry the default of this process. */
void swap_set_default(struct registry *registry, struct registry_entry *entry);

#endif
