#include "model/generate/probe.h"

#include <math.h>
#include <wctype.h>

#include "base/locale.h"
#include "base/utf8.h"

const char *const probe_property_names[] = {
    [PROBE_POSITION] = "position", [PROBE_QUOTES] = "quotes", [PROBE_BRACKETS] = "brackets",
    [PROBE_CAPITAL] = "capital",   [PROBE_BORDER] = "border", [PROBE_DIGIT] = "digit",
    [PROBE_PROPERTIES] = NULL};

/* ------------------------------------------------------------------ the text */

bool probe_text_open(struct probe_text *text, struct error *err)
{
    *text = (struct probe_text){.locale = locale_utf8("a probe", err)};
    return text->locale;
}

static void leave(size_t *depth)
{
    if (*depth > 0) (*depth)--;
}

/* Opens or closes what the character opens or closes. A closing one without its opening one is nothing. */
static void follow(struct probe_text *text, uint32_t character)
{
    switch (character) {
    case '"':
        text->straight = !text->straight;
        break;
    case 0x201C: /* left double quotation mark */
        text->curly++;
        break;
    case 0x201D:
        leave(&text->curly);
        break;
    case 0xAB: /* left guillemet */
        text->guillemets++;
        break;
    case 0xBB:
        leave(&text->guillemets);
        break;
    case '(':
    case '[':
    case '{':
        text->brackets++;
        break;
    case ')':
    case ']':
    case '}':
        leave(&text->brackets);
        break;
    default:
        break;
    }
}

void probe_text_next(struct probe_text *text, const char *token, size_t n, double *values)
{
    bool capital = false, letter = false, digit = false, line_break = false;
    for (size_t at = 0; at < n;) {
        uint32_t character;
        const size_t length = utf8_decode(token + at, n - at, &character);
        const wint_t wide = length > 0 ? (wint_t)character : L'a';
        if (length > 0) follow(text, character);
        if (at == 0) capital = iswupper_l(wide, text->locale);
        if (iswalnum_l(wide, text->locale)) letter = true;
        if (wide >= L'0' && wide <= L'9') digit = true;
        if (wide == L'\n') line_break = true;
        at += length > 0 ? length : 1;
    }
    values[PROBE_POSITION] = (double)text->position;
    values[PROBE_QUOTES] = text->straight || text->curly > 0 || text->guillemets > 0;
    values[PROBE_BRACKETS] = text->brackets > 0;
    values[PROBE_CAPITAL] = capital;
    values[PROBE_BORDER] = !letter;
    values[PROBE_DIGIT] = digit;
    text->position = line_break ? 0 : text->position + 1;
}

/* ------------------------------------------------------------------ the sums */

bool probe_open(struct probe *probe, size_t units, struct error *err)
{
    struct arena *arena = &probe->arena;
    *probe = (struct probe){.units = units};
    probe->mean = arena_alloc(arena, units, sizeof(double), "a probe", err);
    probe->squares = arena_alloc(arena, units, sizeof(double), "a probe", err);
    probe->products = arena_alloc(arena, units, PROBE_PROPERTIES * sizeof(double), "a probe", err);
    return probe->mean && probe->squares && probe->products;
}

void probe_close(struct probe *probe)
{
    arena_free(&probe->arena);
}

void probe_add(struct probe *probe, const float *values, const double *properties)
{
    const double n = (double)++probe->tokens;
    double distance[PROBE_PROPERTIES]; /* from the new mean */
    for (size_t p = 0; p < PROBE_PROPERTIES; p++) {
        const double before = properties[p] - probe->property_mean[p];
        probe->property_mean[p] += before / n;
        distance[p] = properties[p] - probe->property_mean[p];
        probe->property_squares[p] += before * distance[p];
    }
    for (size_t u = 0; u < probe->units; u++) {
        const double before = (double)values[u] - probe->mean[u];
        probe->mean[u] += before / n;
        probe->squares[u] += before * ((double)values[u] - probe->mean[u]);
        for (size_t p = 0; p < PROBE_PROPERTIES; p++) probe->products[p * probe->units + u] += before * distance[p];
    }
}

size_t probe_rank(const struct probe *probe, enum probe_property property, size_t count, struct probe_unit *best)
{
    const double *products = probe->products + (size_t)property * probe->units;
    size_t filled = 0;
    for (size_t u = 0; count > 0 && u < probe->units; u++) {
        const double scale = sqrt(probe->squares[u]) * sqrt(probe->property_squares[property]);
        if (!(scale > 0)) continue;
        const struct probe_unit unit = {u, fmax(-1, fmin(1, products[u] / scale))};
        if (filled == count && fabs(unit.r) <= fabs(best[count - 1].r)) continue;
        size_t at = filled < count ? filled++ : count - 1;
        for (; at > 0 && fabs(best[at - 1].r) < fabs(unit.r); at--) best[at] = best[at - 1];
        best[at] = unit;
    }
    return filled;
}
