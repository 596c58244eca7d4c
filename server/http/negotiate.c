#include "server/http/negotiate.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define WEIGHT_ONE 1000 /* weights have three decimals */
#define BLANKS     " \t"

/* How specific a range is about a type. */
enum {
    NOT_NAMED,       /* it does not name the type */
    ANY_TYPE,        /* any type and subtype */
    ANY_SUBTYPE,     /* any subtype of the type */
    NAMED,           /* the type itself */
    WITH_PARAMETERS, /* the type with parameters */
};

/* One element of a header: a range of types, or a coding. */
struct range {
    const char *type; /* "text/csv" or "gzip", [size] */
    size_t size;
    bool has_parameters;
    unsigned weight;
};

/* The end of an element: a comma outside of quoted strings. */
static const char *find_end(const char *text)
{
    bool quoted = false;
    for (; *text && (quoted || *text != ','); text++) {
        if (quoted && *text == '\\' && text[1])
            text++;
        else if (*text == '"')
            quoted = !quoted;
    }
    return text;
}

/* "0", "0.25", "1", "1.000"; false for anything else. */
static bool parse_weight(const char *text, size_t n, unsigned *weight)
{
    if (n < 1 || n > 5 || (text[0] != '0' && text[0] != '1') || (n > 1 && text[1] != '.')) return false;
    unsigned value = 0, unit = WEIGHT_ONE / 10;
    for (size_t i = 2; i < n; i++, unit /= 10) {
        if (text[i] < '0' || text[i] > '9') return false;
        value += (unsigned)(text[i] - '0') * unit;
    }
    *weight = (text[0] == '1' ? WEIGHT_ONE : 0) + value;
    return *weight <= WEIGHT_ONE;
}

/* The parameters text[0..n) of a range, which begin with ";". */
static bool parse_parameters(const char *text, size_t n, struct range *range)
{
    const char *end = text + n;
    while (text < end) {
        text += 1 + strspn(text + 1, BLANKS);
        const char *next = text;
        bool quoted = false;
        for (; next < end && (quoted || *next != ';'); next++) quoted ^= *next == '"';
        size_t size = (size_t)(next - text);
        while (size > 0 && strchr(BLANKS, text[size - 1])) size--;
        if (size >= 2 && strncasecmp(text, "q=", 2) == 0) return parse_weight(text + 2, size - 2, &range->weight);
        if (size > 0) range->has_parameters = true;
        text = next;
    }
    return true;
}

static bool parse_element(const char *text, const char *end, struct range *range)
{
    text += strspn(text, BLANKS);
    *range = (struct range){.type = text, .weight = WEIGHT_ONE};
    while (text < end && !strchr(BLANKS ";", *text)) text++;
    range->size = (size_t)(text - range->type);
    text += strspn(text, BLANKS);
    if (text < end && *text != ';') return false;
    return text >= end || parse_parameters(text, (size_t)(end - text), range);
}

static bool parse_range(const char *text, const char *end, struct range *range)
{
    return parse_element(text, end, range) && memchr(range->type, '/', range->size);
}

static int find_specificity(const struct range *range, const char *type)
{
    const size_t slash = strcspn(type, "/") + 1;
    if (range->size == 3 && memcmp(range->type, "*/*", 3) == 0) return ANY_TYPE;
    if (range->size == slash + 1 && range->type[slash] == '*' && strncasecmp(range->type, type, slash) == 0)
        return ANY_SUBTYPE;
    if (range->size != strlen(type) || strncasecmp(range->type, type, range->size) != 0) return NOT_NAMED;
    return range->has_parameters ? WITH_PARAMETERS : NAMED;
}

/* The weight of the most specific range that names the type; of two such, the greater weight. */
static unsigned weight_of(const char *accept, const char *type)
{
    int best = NOT_NAMED;
    unsigned weight = 0;
    for (const char *end; *accept; accept = *end ? end + 1 : end) {
        struct range range;
        end = find_end(accept);
        if (!parse_range(accept, end, &range)) continue;
        const int how = find_specificity(&range, type);
        if (how == NOT_NAMED || how < best) continue;
        if (how > best || range.weight > weight) weight = range.weight;
        best = how;
    }
    return weight;
}

size_t accept_choose(const char *accept, const char *const *types, size_t count)
{
    size_t chosen = 0;
    unsigned most = 0;
    for (size_t i = 0; accept && i < count; i++) {
        const unsigned weight = weight_of(accept, types[i]);
        if (weight <= most) continue;
        most = weight;
        chosen = i;
    }
    return chosen;
}

static bool is_named(const struct range *range, const char *name)
{
    return range->size == strlen(name) && strncasecmp(range->type, name, range->size) == 0;
}

/* The weight that the header gives a coding by its name, else by "*", else `absent`. */
static unsigned weight_of_coding(const char *encodings, const char *coding, unsigned absent)
{
    unsigned weight = absent;
    for (const char *end; *encodings; encodings = *end ? end + 1 : end) {
        struct range range;
        end = find_end(encodings);
        if (!parse_element(encodings, end, &range)) continue;
        if (is_named(&range, coding)) return range.weight;
        if (is_named(&range, "*")) weight = range.weight;
    }
    return weight;
}

bool accept_gzip(const char *encodings)
{
    if (!encodings) return false;
    const unsigned gzip = weight_of_coding(encodings, "gzip", 0);
    return gzip > 0 && gzip >= weight_of_coding(encodings, "identity", 1);
}

bool etag_is_listed(const char *list, const char *etag)
{
    const char *separators = BLANKS ",";
    if (!list) return false;
    list += strspn(list, separators);
    if (*list == '*') return !list[1 + strspn(list + 1, separators)];
    while (*list) {
        if (strncmp(list, "W/", 2) == 0) list += 2;
        const char *end = *list == '"' ? strchr(list + 1, '"') : NULL;
        if (!end) return false;
        const size_t size = (size_t)(end + 1 - list);
        if (size == strlen(etag) && memcmp(list, etag, size) == 0) return true;
        list = end + 1 + strspn(end + 1, separators);
    }
    return false;
}
