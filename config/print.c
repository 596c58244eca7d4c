/* The printing half of config/option.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "config/option.h"

/* Text that grows at the end of a buffer; bytes that do not fit are counted but not written, as in snprintf. */
struct text {
    char *out;
    size_t size, length;
};

static void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void text_add(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    bool room = text->length < text->size;
    int n = vsnprintf(room ? text->out + text->length : NULL, room ? text->size - text->length : 0, format, arguments);
    va_end(arguments);
    if (n > 0) text->length += (size_t)n;
}

/* Six digits, or as many as it takes to read back as the same number. */
static void add_real(struct text *text, double value)
{
    char digits[32];
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        double back = strtod(digits, NULL);
        if (!(back < value) && !(back > value)) break;
    }
    text_add(text, "%s", digits);
}

static void add_size(struct text *text, uint64_t value)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; unit < 4 && value > 0 && value % 1024 == 0; unit++) value /= 1024;
    text_add(text, "%llu%s", (unsigned long long)value, units[unit]);
}

static const void *field_of(const struct option *option, const void *target)
{
    return (const char *)target + option->offset;
}

/* The text that is shown for an item. */
static const char *item_text(const struct option *option, const char *item)
{
    return option->type == OPTION_SECRETS ? "(set)" : item;
}

static void add_list(struct text *text, const struct option *option, const struct option_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        text_add(text, "%s%s", i > 0 ? ", " : "", item_text(option, list->items[i]));
}

static void add_value(struct text *text, const struct option *option, const void *field)
{
    const char *words;
    switch (option->type) {
    case OPTION_BOOL:
        text_add(text, "%s", *(const bool *)field ? "true" : "false");
        break;
    case OPTION_INT:
        text_add(text, "%lld", (long long)*(const int64_t *)field);
        break;
    case OPTION_SIZE:
        add_size(text, *(const uint64_t *)field);
        break;
    case OPTION_REAL:
        add_real(text, *(const double *)field);
        break;
    case OPTION_CHOICE:
        text_add(text, "%s", option->choices[*(const int *)field]);
        break;
    case OPTION_LIST:
    case OPTION_SECRETS:
        add_list(text, option, field);
        break;
    case OPTION_TEXT:
        words = *(const char *const *)field;
        text_add(text, "%s", words ? words : "");
        break;
    }
}

int options_format(const struct option *option, const void *target, char *out, size_t size)
{
    struct text text = {out, size, 0};
    add_value(&text, option, field_of(option, target));
    return (int)text.length;
}

static void add_choices(struct text *text, const char *const *choices)
{
    text_add(text, "one of ");
    for (size_t i = 0; choices[i]; i++) text_add(text, "%s%s", i > 0 ? ", " : "", choices[i]);
}

static void add_bounds(struct text *text, const struct option *option)
{
    if (option->minimum >= 0 && option->maximum <= 0) return;
    text_add(text, " from ");
    if (option->type == OPTION_SIZE) {
        add_size(text, (uint64_t)option->minimum);
        text_add(text, " to ");
        add_size(text, option->maximum < 0x1p64 ? (uint64_t)option->maximum : UINT64_MAX);
    } else {
        text_add(text, option->type == OPTION_INT ? "%.0f to %.0f" : "%.15g to %.15g", option->minimum,
                 option->maximum);
    }
}

static void add_type(struct text *text, const struct option *option)
{
    switch (option->type) {
    case OPTION_BOOL:
        text_add(text, "true or false");
        break;
    case OPTION_INT:
        text_add(text, "an integer");
        break;
    case OPTION_SIZE:
        text_add(text, "a size (as 65536, 64KiB or 1MiB)");
        break;
    case OPTION_REAL:
        text_add(text, "a number");
        break;
    case OPTION_CHOICE:
        add_choices(text, option->choices);
        return;
    case OPTION_LIST:
    case OPTION_SECRETS:
        text_add(text, "a text, or several");
        return;
    case OPTION_TEXT:
        if (option->choices) {
            add_choices(text, option->choices);
        } else {
            text_add(text, "a text");
            if (option->maximum > 0) text_add(text, " of %.15g to %.15g bytes", option->minimum, option->maximum);
        }
        return;
    }
    add_bounds(text, option);
    if (option->unit && option->type != OPTION_SIZE) text_add(text, " %s", option->unit);
}

int options_describe(const struct option *option, char *out, size_t size)
{
    struct text text = {out, size, 0};
    add_type(&text, option);
    return (int)text.length;
}

void options_print_help(const struct option_table *table, FILE *out)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        char expected[256];
        options_describe(option, expected, sizeof expected);
        fprintf(out, "  %-24s", option->key);
        if (strlen(option->key) > 24) fprintf(out, "\n  %-24s", "");
        fprintf(out, " %s\n  %-24s (%s", option->help, "", expected);
        if (option->fallback) fprintf(out, "; default %s", option->fallback);
        fputs(")\n", out);
    }
}

/* Whether YAML reads the text back as a string without quotes: it has no YAML marks and does not look like a number or
 * null. */
static bool is_plain(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "null"};
    if (strspn(text, letters) == 0 && *text != '/') return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(text, words[i]) == 0) return false;
    return text[1 + strspn(text + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-")] == '\0';
}

/* Prints a quoted string. Bytes that are not UTF-8 become U+FFFD, because YAML cannot express them. */
static void print_quoted(const char *text, FILE *out)
{
    size_t n = strlen(text);
    fputc('"', out);
    for (size_t at = 0; at < n;) {
        uint32_t c = UTF8_REPLACEMENT;
        char bytes[UTF8_MAX_BYTES];
        const size_t length = utf8_decode(text + at, n - at, &c), encoded = utf8_encode(c, bytes);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (int)c);
        else if (c < 0x20 || (c >= 0x7F && c < 0xA0))
            fprintf(out, "\\x%02x", (unsigned)c);
        else
            fwrite(bytes, 1, encoded, out);
        at += length > 0 ? length : 1;
    }
    fputc('"', out);
}

static void print_text(const char *text, FILE *out)
{
    if (!text)
        fputs("null", out);
    else if (is_plain(text))
        fputs(text, out);
    else
        print_quoted(text, out);
}

static void print_list(const struct option *option, const struct option_list *list, FILE *out)
{
    fputc('[', out);
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0) fputs(", ", out);
        print_text(item_text(option, list->items[i]), out);
    }
    fputc(']', out);
}

static void print_value(const struct option *option, const void *target, FILE *out)
{
    char number[64];
    if (option->type == OPTION_TEXT) {
        print_text(*(const char *const *)field_of(option, target), out);
    } else if (option->type == OPTION_LIST || option->type == OPTION_SECRETS) {
        print_list(option, field_of(option, target), out);
    } else {
        options_format(option, target, number, sizeof number);
        fputs(number, out);
    }
}

/* Prints a place in a comment, without line breaks: one in a file's name would end the comment. */
static void print_place(const char *place, FILE *out)
{
    for (; *place; place++) fputc((unsigned char)*place < ' ' ? '?' : *place, out);
}

static void print_origin(const struct option_table *table, size_t i, FILE *out)
{
    const struct option_origin *origin = table->origins ? &table->origins[i] : NULL;
    if (!origin) return;
    fputs("  # ", out);
    print_place(origin->place ? origin->place : "default", out);
    if (!origin->overrides) return;
    fputs(", which overrides ", out);
    print_place(origin->overrides, out);
}

/* A table keeps the keys of a section together, so a new section starts when the part before the dot changes. */
void options_print_yaml(const struct option_table *table, const void *target, FILE *out)
{
    const char *section = "";
    size_t section_length = 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        const char *dot = strchr(option->key, '.');
        size_t n = dot ? (size_t)(dot - option->key) : 0;
        if (n > 0 && (n != section_length || strncmp(section, option->key, n) != 0))
            fprintf(out, "%.*s:\n", (int)n, option->key);
        section = option->key;
        section_length = n;
        fprintf(out, "%s%s: ", n > 0 ? "  " : "", n > 0 ? dot + 1 : option->key);
        print_value(option, target, out);
        print_origin(table, i, out);
        fputc('\n', out);
    }
}
