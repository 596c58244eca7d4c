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
    char digits[NUMBER_SIZE];
    size_t at = sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do digits[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (value < 0) digits[--at] = '-';
    json_write(writer, digits + at, sizeof digits - at);
}

/* Shortens "1e-07" to "1e-7" and makes 3 "3.0", so that readers which distinguish reals from integers see a real. */
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

/* The powers of ten that a double holds exactly. */
static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#define LAST_POWER 22

/* value * 10^shift. The relative error is a few 2^-53; a float's own is 2^-24. */
static double scaled(double value, int shift)
{
    for (; shift > LAST_POWER; shift -= LAST_POWER) value *= powers[LAST_POWER];
    for (; shift < -LAST_POWER; shift += LAST_POWER) value /= powers[LAST_POWER];
    return shift < 0 ? value / powers[-shift] : value * powers[shift];
}

/* floor(log2(value)) of a positive value: as ilogbf(), but it makes a call only if the value is subnormal. */
static int float_exponent(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 23 > 0 ? (int)(bits >> 23) - 127 : ilogbf(value);
}

/* value (positive) = 0.n * 10^*point, n of FLOAT_DIGITS digits, which is returned. */
static uint32_t float_digits(float value, int *point)
{
    const int binary = float_exponent(value);
    /* floor(binary * log10(2)) + 1 (Source: the constant and its range are checked by the tests over all exponents); it
     * is one too small if a power of ten lies between value and the power of two below it. */
    *point = (binary * 78913 >> 18) + 1;
    double number = scaled((double)value, FLOAT_DIGITS - *point) + 0.5;
    if (number >= FLOAT_LIMIT) {
        ++*point;
        number = scaled((double)value, FLOAT_DIGITS - *point) + 0.5;
    }
    return (uint32_t)number;
}

static void put_pair(char *out, uint32_t pair)
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
        "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
        "9899";
    memcpy(out, pairs + 2 * pair, 2);
}

/* The digits of a number of FLOAT_DIGITS digits; returns how many there are without zeros at the end. */
static int put_number(char digits[FLOAT_DIGITS], uint32_t number)
{
    const uint32_t high = number / 100000, low = number / 10 % 10000;
    int count = FLOAT_DIGITS;
    put_pair(digits, high / 100);
    put_pair(digits + 2, high % 100);
    put_pair(digits + 4, low / 100);
    put_pair(digits + 6, low % 100);
    digits[8] = (char)('0' + number % 10);
    while (count > 1 && digits[count - 1] == '0') count--;
    return count;
}

/* Writes 0.digits[count] * 10^point with an exponent: 1.2e-7 */
static char *put_exponent(char *out, const char digits[FLOAT_DIGITS], int count, int point)
{
    const uint32_t exponent = (uint32_t)(point > 0 ? point - 1 : 1 - point); /* a float's has two digits at most */
    *out++ = digits[0];
    if (count > 1) *out++ = '.';
    memcpy(out, digits + 1, FLOAT_DIGITS - 1);
    out += count - 1;
    *out++ = 'e';
    if (point <= 0) *out++ = '-';
    if (exponent >= 10) *out++ = (char)('0' + exponent / 10);
    *out++ = (char)('0' + exponent % 10);
    return out;
}

/* Writes the same without an exponent: 0.00012, 12.5 or 120.0. */
static char *put_fraction(char *out, const char digits[FLOAT_DIGITS], int count, int point)
{
    if (point <= 0) {
        memcpy(out, "0.0000", 6);
        memcpy(out + 2 - point, digits, FLOAT_DIGITS);
        return out + 2 - point + count;
    }
    for (int i = 0; i < point; i++) *out++ = i < count ? digits[i] : '0';
    *out++ = '.';
    if (count <= point) *out++ = '0';
    for (int i = point; i < count; i++) *out++ = digits[i];
    return out;
}

/* out: NUMBER_SIZE bytes. */
static char *put_float(char *out, float value)
{
    char digits[FLOAT_DIGITS];
    int point;
    if (!isfinite(value)) return (char *)memcpy(out, "null", 4) + 4;
    *out = '-'; /* no branch: signs are as good as random, and a wrong guess costs as much as all digits */
    out += signbit(value) ? 1 : 0;
    if (value == 0) return (char *)memcpy(out, "0.0", 3) + 3;
    const uint32_t number = float_digits(fabsf(value), &point);
    const int count = put_number(digits, number);
    if (point < -4 || point > FLOAT_DIGITS) return put_exponent(out, digits, count, point);
    return put_fraction(out, digits, count, point);
}

void json_write_float(struct json_writer *writer, float value)
{
    char *out = json_writer_room(writer, NUMBER_SIZE);
    if (out) writer->size += (size_t)(put_float(out, value) - out);
}

void json_write_floats(struct json_writer *writer, const float *values, size_t n)
{
    size_t needed;
    if (__builtin_mul_overflow(n, NUMBER_SIZE, &needed)) {
        writer->failed = true;
        return;
    }
    char *out = n > 0 ? json_writer_room(writer, needed) : NULL, *end = out;
    for (size_t i = 0; out && i < n; i++) {
        if (i > 0) *end++ = ',';
        end = put_float(end, values[i]);
    }
    if (out) writer->size += (size_t)(end - out);
}

static bool is_plain(unsigned char byte)
{
    return byte >= ' ' && byte < 0x80 && byte != '"' && byte != '\\';
}

/* Writes a character that a JSON string must escape. */
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

/* Writes text[0..n) as part of a string; returns the bytes written. An unfinished character at the end is left out,
 * unless the text is over. */
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
        if (done < before) { /* still not a whole character: the part has no more bytes */
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
