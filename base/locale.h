/* The locale C.UTF-8: its classes of characters and its simple case mapping are Unicode's. No language of a country. */
#ifndef LSTMD_BASE_LOCALE_H
#define LSTMD_BASE_LOCALE_H

#include <locale.h>

#include "base/error.h"

/* Opens it at the first call and keeps it for the process, so later calls need no memory. Any thread. `what` names who
 * needs it, for the error. Returns (locale_t)0 on errors: ERROR_NO_MEMORY, ERROR_IO (this system lacks the locale; the
 * C library says that, too, in some places where it lacks memory). */
locale_t locale_utf8(const char *what, struct error *err);

#endif
