/* What a configuration means to the parts of the daemon, as far as that is known without a start. `lstmd serve` reads
 * its settings through these functions, and `lstmd config` calls settings_check(): both refuse the same configurations.
 */
#ifndef LSTMD_SERVER_SETTINGS_H
#define LSTMD_SERVER_SETTINGS_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "model/kernels/kernels.h"
#include "server/http/http.h"

/* Fills in what the configuration says; the rest is zero. Borrows from it. ERROR_INVALID for server.socket_mode. */
bool settings_http(struct http_options *options, const struct config *config, struct error *err);

/* NULL with ERROR_INVALID where this machine cannot run engine.kernel. */
const struct kernels *settings_kernels(const struct config *config, struct error *err);

/* Loads OpenBLAS where engine.products names it, or auto chooses it on this machine, and forbids it otherwise. To be
 * called before there are threads, and before the daemon is confined. ERROR_INVALID where it is named and cannot be
 * loaded. */
bool settings_load_products(const struct config *config, struct error *err);

/* Whether OpenBLAS multiplies where texts are read (model/generate/step_piece.h): engine.products names it, or is auto
 * while engine.kernel is generic, and the library is loaded. */
bool settings_reads_with_library(const struct config *config);

/* Whether there must be a model at model.path. With a state directory the bundled model may be missing: the directory
 * may have others, now or later. */
bool settings_model_is_required(const struct config *config);

/* The setting that says where the model is, for messages: "--model", or "model.path" and how it got its value. */
const char *settings_model_origin(const struct config *config);

/* Checks all that needs no start: values, addresses, tokens and their files, the user, the model's config.json. Calls
 * `tell` for each problem; true: there is none. Opens no socket and changes nothing. */
bool settings_check(const struct config *config, void (*tell)(const struct error *err));

#endif
