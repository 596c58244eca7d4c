#include "base/locale.h"

#include <errno.h>
#include <stdatomic.h>

static _Atomic(locale_t) kept;

locale_t locale_utf8(const char *what, struct error *err)
{
    locale_t locale = atomic_load(&kept), none = (locale_t)0;
    if (locale) return locale;
    errno = 0;
    locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", none);
    if (!locale && errno == ENOMEM)
        error_set_no_memory(err, 0, what);
    else if (!locale)
        error_set(err, ERROR_IO, "%s needs the locale C.UTF-8, which is missing", what);
    if (!locale || atomic_compare_exchange_strong(&kept, &none, locale)) return locale;
    freelocale(locale); /* another thread was faster */
    return none;
}
