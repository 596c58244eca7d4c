#include "server/http/query.h"

#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool percent_decode(const char *text, size_t n, bool plus_is_space, char *out, size_t *size)
{
    size_t written = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '%') {
            int high = n - i > 2 ? hex_digit(text[i + 1]) : -1;
            int low = n - i > 2 ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                *size = i;
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[written++] = c;
    }
    out[written] = '\0';
    *size = written;
    return true;
}

struct decoder {
    const char *text;
    char *out; /* where the next part goes */
};

/* Decodes text[from..to) and returns it; NULL for a wrong escape. */
static const char *decode_part(struct decoder *decoder, size_t from, size_t to, size_t *size, struct error *err)
{
    char *part = decoder->out;
    if (!percent_decode(decoder->text + from, to - from, true, part, size)) {
        error_set(err, ERROR_INVALID,
                  "the query string has a \"%%\" that two hexadecimal digits do not follow, at byte %zu", from + *size);
        return NULL;
    }
    decoder->out += *size + 1;
    return part;
}

/* The pair text[begin..end). */
static bool decode_pair(struct decoder *decoder, size_t begin, size_t end, struct query_pair *pair, struct error *err)
{
    const char *equals = memchr(decoder->text + begin, '=', end - begin);
    const size_t name_end = equals ? (size_t)(equals - decoder->text) : end;
    const size_t value = equals ? name_end + 1 : end;
    return (pair->name = decode_part(decoder, begin, name_end, &pair->name_size, err)) &&
           (pair->value = decode_part(decoder, value, end, &pair->value_size, err));
}

bool query_parse(struct query *query, const char *text, struct error *err)
{
    *query = (struct query){0};
    size_t n = strlen(text), most = 1;
    for (size_t i = 0; i < n; i++) most += text[i] == '&';
    /* Decoding never lengthens, and each pair adds two NULs where it had at most "=" and "&". */
    query->pairs = calloc(most, sizeof *query->pairs);
    query->text = malloc(n + 2 * most);
    if (!query->pairs || !query->text) return error_set_no_memory(err, n, "the query string");
    struct decoder decoder = {.text = text, .out = query->text};
    for (size_t begin = 0, end; begin < n; begin = end + 1) {
        const char *ampersand = memchr(text + begin, '&', n - begin);
        end = ampersand ? (size_t)(ampersand - text) : n;
        if (end == begin) continue;
        if (!decode_pair(&decoder, begin, end, &query->pairs[query->count++], err)) return false;
    }
    return true;
}

void query_close(struct query *query)
{
    free(query->pairs);
    free(query->text);
    *query = (struct query){0};
}

bool path_match(const char *pattern, const char *path, char *parameter)
{
    size_t kept = 0; /* bytes of the placeholder's text, which stays in front; other segments go behind it */
    while (*pattern == '/' && *path == '/') {
        size_t wanted = strcspn(++pattern, "/"), given = strcspn(++path, "/"), size;
        char *segment = parameter + kept;
        if (!percent_decode(path, given, false, segment, &size)) return false;
        if (*pattern == '{') {
            if (size == 0 || strlen(segment) != size) return false;
            kept = size + 1;
        } else if (size != wanted || memcmp(segment, pattern, size) != 0) {
            return false;
        }
        pattern += wanted;
        path += given;
    }
    if (kept == 0) *parameter = '\0';
    return *pattern == '\0' && *path == '\0';
}
