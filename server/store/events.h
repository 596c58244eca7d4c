/* Adds events of a job; other files of the store call it within their transactions. store.h has the reading
 * functions. */
#ifndef LSTMD_SERVER_STORE_EVENTS_H
#define LSTMD_SERVER_STORE_EVENTS_H

#include "server/store/store.h"

/* data: JSON. */
bool event_add(struct store *store, int64_t id, const char *type, const char *data, struct error *err);

/* Adds an event and removes the last one of this type. */
bool event_replace(struct store *store, int64_t id, const char *type, const char *data, struct error *err);

#endif
