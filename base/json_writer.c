#include "base/json_writer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY ((size_t)1024)
#define NUMBER_SIZE    ((size_t)32)
#define FLOAT_DIGITS   9
#define FLOAT_LIMIT    1e9

void json_writer_close(struct json_writer *writer)
{
    free(writer->text);
    *writer = (struct json_writer){0};
}

char *json_writer_room(struct json_writer *writer, size_t n)
{
    if (writer->failed) return NULL;
    if (writer->capacity - writer->size >= n) return writer->text + writer->size;
    size_t needed, capacity;
    if (__builtin_add_overflow(writer->size, n, &needed) || __builtin_mul_overflow(writer->capacity, 2, &capacity)) {
        writer->failed = true;
        return NULL;
    }
    if (capacity < FIRST_CAPACITY) capacity = FIRST_CAPACITY;
    if (capacity < needed) capacity = needed;
    char *text = realloc(writer->text, capacity);
    writer->failed = !text;
    if (!text) return NULL;
    writer->text = text;
    writer->capacity = capacity;
    return text + writer->size;
}

void json_write(struct json_writer *writer, const char *text, size_t n)
{
    char *out = n > 0 ? json_writer_room(writer, n) : NULL;
    if (!out) return;
    memcpy(out, text, n);
    writer->size += n;
}

void json_write_integer(struct json_writer *writer, int64_t value)
{
    char *out = json_writer_room(writer, NUMBER_SIZE);
    if (out) writer->size += (size_t)snprintf(out, NUMBER_SIZE, "%" PRId64, value);
}

/* "1e-07" is "1e-7", and 3 is "3.0": readers that tell reals from integers see a real. */
static size_t tidy_real(char *text)
{
    char *exponent = strchr(text, 'e');
    if (!exponent && !strchr(text, '.')) return (size_t)(stpcpy(text + strlen(text), ".0") - text);
    if (!exponent) return strlen(text);
    char *out = exponent + 1, *digits = out;
    if (*digits == '-') out++;
    digits += strspn(digits, "+-");
    digits += strspn(digits, "0");
    const size_t n = strlen(digits);
    memmove(out, digits, n);
    return (size_t)(out + n - text);
}

void json_write_real(struct json_writer *writer, double value)
{
    if (!isfinite(value)) {
        json_write_literal(writer, "null");
        return;
    }
    char *out = json_writer_room(writer, NUMBER_SIZE);
    if (!out) return;
    snprintf(out, NUMBER_SIZE, "%.15g", value);
    writer->size += tidy_real(out);
}

/* value (positive) = 0.digits * 10^*point, with FLOAT_DIGITS digits. The powers of ten are exact to 10^22, so the
 * number before the last digit is cut has a relative error of a few 2^-53, where a float has 2^-24. */
static uint32_t float_digits(double value, int *point)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int binary;
    frexp(value, &binary);
    *point = (int)floor((binary - 1) * 0.301029995663981195) + 1; /* log10(2); one too small at times */
    int shift = FLOAT_DIGITS - *point;
    for (; shift > 22; shift -= 22) value *= powers[22];
    value = shift < 0 ? value / powers[shift < -22 ? 22 : -shift] : value * powers[shift];
    if (shift < -22) value /= powers[-shift - 22];
    if (value + 0.5 >= FLOAT_LIMIT) {
        value /= 10;
        ++*point;
    }
    return (uint32_t)(value + 0.5);
}

static char *put_zeros(char *out, int count)
{
    for (; count > 0; count--) *out++ = '0';
    return out;
}

static char *put_digits(char *out, const char *digits, int count)
{
    memcpy(out, digits, (size_t)count);
    return out + count;
}

/* 0.digits[count] * 10^point: 0.00012, 12.5, 120.0 or 1.2e-7 */
static char *put_float(char *out, const char *digits, int count, int point)
{
    if (point < -4 || point > FLOAT_DIGITS) {
        *out++ = digits[0];
        if (count > 1) *out++ = '.';
        out = put_digits(out, digits + 1, count - 1);
        return out + sprintf(out, "e%d", point - 1);
    }
    if (point <= 0) {
        out = put_zeros(put_digits(out, "0.", 2), -point);
        return put_digits(out, digits, count);
    }
    const int before = count < point ? count : point;
    out = put_zeros(put_digits(out, digits, before), point - before);
    *out++ = '.';
    if (before == count) return put_zeros(out, 1);
    return put_digits(out, digits + before, count - before);
}

void json_write_float(struct json_writer *writer, float value)
{
    if (!isfinite(value) || value == 0) {
        json_write_real(writer, (double)value);
        return;
    }
    char *out = json_writer_room(writer, NUMBER_SIZE), *end = out, digits[FLOAT_DIGITS];
    if (!out) return;
    int point, count = FLOAT_DIGITS;
    uint32_t number = float_digits(fabs((double)value), &point);
    for (int i = FLOAT_DIGITS; i-- > 0; number /= 10) digits[i] = (char)('0' + number % 10);
    while (count > 1 && digits[count - 1] == '0') count--;
    if (value < 0) *end++ = '-';
    writer->size += (size_t)(put_float(end, digits, count, point) - out);
}

static bool is_plain(unsigned char byte)
{
    return byte >= ' ' && byte < 0x80 && byte != '"' && byte != '\\';
}

/* A character that does not stand for itself in a string. */
static void write_escaped(struct json_writer *writer, unsigned char byte)
{
    static const char named[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    char *out = json_writer_room(writer, 8);
    if (!out) return;
    for (size_t i = 0; i + 1 < sizeof named; i += 2)
        if (byte == (unsigned char)named[i]) {
            out[0] = '\\';
            out[1] = named[i + 1];
            writer->size += 2;
            return;
        }
    writer->size += (size_t)snprintf(out, 8, "\\u%04X", byte);
}

/* Writes text[0..n) as it stands in a string; returns how much of it was written: all but a character that is begun at
 * the end, and that too where the text is over. */
static size_t write_characters(struct json_writer *writer, const char *text, size_t n, bool over)
{
    size_t at = 0;
    while (at < n) {
        size_t length = 0;
        uint32_t code_point;
        while (at + length < n && is_plain((unsigned char)text[at + length])) length++;
        if (length > 0) {
            json_write(writer, text + at, length);
            at += length;
            continue;
        }
        const enum utf8_scan found = utf8_scan(text + at, n - at, &length, &code_point);
        if (found == UTF8_INCOMPLETE && !over) return at;
        if (found != UTF8_VALID)
            json_write_literal(writer, "\xEF\xBF\xBD");
        else if (length > 1)
            json_write(writer, text + at, length);
        else
            write_escaped(writer, (unsigned char)text[at]);
        at += length;
    }
    return n;
}

void json_write_string(struct json_writer *writer, const char *text, size_t n)
{
    json_write_literal(writer, "\"");
    write_characters(writer, text, n, true);
    json_write_literal(writer, "\"");
}

void json_write_part(struct json_writer *writer, struct json_string *string, const char *text, size_t n)
{
    size_t at = 0;
    if (string->count > 0) {
        char joined[2 * UTF8_MAX_BYTES];
        const size_t more = n < UTF8_MAX_BYTES ? n : UTF8_MAX_BYTES, before = string->count;
        memcpy(joined, string->rest, before);
        if (more > 0) memcpy(joined + before, text, more);
        const size_t done = write_characters(writer, joined, before + more, false);
        if (done < before) { /* not even with these bytes is it a whole character; then they were all there is */
            string->count = before + more;
            memcpy(string->rest, joined, string->count);
            return;
        }
        at = done - before;
    }
    if (at < n) at += write_characters(writer, text + at, n - at, false);
    string->count = n - at;
    if (string->count > 0) memcpy(string->rest, text + at, string->count);
}

void json_write_part_end(struct json_writer *writer, struct json_string *string)
{
    write_characters(writer, string->rest, string->count, true);
    string->count = 0;
}
