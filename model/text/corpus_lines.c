/* Lines of a text, and the format that has a document on each. */
#include <string.h>

#include "model/text/corpus_internal.h"

char corpus_newline(const char *text, size_t n)
{
    return !memchr(text, '\n', n) && memchr(text, '\r', n) ? '\r' : '\n';
}

size_t corpus_line(const struct corpus_loader *loader, const char *at, const char **next)
{
    const char *end = loader->text + loader->n, *stop = memchr(at, loader->newline, (size_t)(end - at));
    size_t n = (size_t)((stop ? stop : end) - at);
    *next = stop ? stop + 1 : end;
    if (n && loader->newline == '\n' && at[n - 1] == '\r') n--;
    return n;
}

bool corpus_read_lines(struct corpus_loader *loader, struct error *err)
{
    const char *at = loader->text, *end = at + loader->n, *next;
    for (; at < end; at = next) {
        loader->at = at;
        const size_t n = corpus_line(loader, at, &next);
        if (!corpus_add(loader, at, n, NULL, err)) return false;
    }
    return true;
}
