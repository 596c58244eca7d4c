/* Events of a job, as the rest of the store adds them within its transactions. Reading them is in store.h. */
#ifndef LSTMD_SERVER_STORE_EVENTS_H
#define LSTMD_SERVER_STORE_EVENTS_H

#include "server/store/store.h"

/* data: JSON. */
bool event_add(struct store *store, int64_t id, const char *type, const char *data, struct error *err);

/* The same in place of the last event of this type. */
bool event_replace(struct store *store, int64_t id, const char *type, const char *data, struct error *err);

#endif
