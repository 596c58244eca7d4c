#include "model/interop/hdf5_heap.h"

#include <string.h>

#include "base/size.h"

#define MESSAGE_CONTINUATION 0x10
#define MESSAGE_ATTRIBUTE    0x0C
#define MAX_BLOCKS           256u /* of one object's header */
#define REFERENCE_SIZE       16u  /* length, address, index */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie in the file");

/* A piece of the file, read from start to end. All zero once it was too short. */
struct hdf5_span {
    const unsigned char *data;
    size_t size;
};

static bool span_skip(struct hdf5_span *span, size_t n)
{
    bool ok = span->data && n <= span->size;
    *span = ok ? (struct hdf5_span){span->data + n, span->size - n} : (struct hdf5_span){0};
    return ok;
}

/* Reads a number of n bytes; 0 where fewer are left. */
static uint64_t span_number(struct hdf5_span *span, size_t n)
{
    uint64_t value = 0;
    if (span->data && n <= span->size) memcpy(&value, span->data, n);
    return span_skip(span, n) ? value : 0;
}

static struct hdf5_span span_take(struct hdf5_span *span, size_t n)
{
    struct hdf5_span taken = {span->data, n};
    return span_skip(span, n) ? taken : (struct hdf5_span){0};
}

static bool begins_with(struct hdf5_span span, const char *signature)
{
    return span.size >= 4 && memcmp(span.data, signature, 4) == 0;
}

/* --- The object's header --- */

struct search {
    struct hdf5_span file;
    const char *name;
    bool second;            /* the header is of version 2 */
    size_t more;            /* bytes that begin each message, where messages have numbers */
    size_t blocks;          /* seen so far */
    struct hdf5_span found; /* the attribute's references */
};

/* Finds the data of the attribute, if this message is the one. */
static void read_attribute(struct search *search, struct hdf5_span message)
{
    uint64_t version = span_number(&message, 1), shared = span_number(&message, 1);
    size_t name_size = (size_t)span_number(&message, 2), type_size = (size_t)span_number(&message, 2);
    size_t space_size = (size_t)span_number(&message, 2), unit = version == 1 ? 8 : 1;
    if (version < 1 || version > 3 || (version > 1 && shared != 0)) return;
    if (version == 3) span_skip(&message, 1);
    struct hdf5_span name = span_take(&message, size_round_up(name_size, unit));
    size_t length = strlen(search->name);
    if (!name.data || name_size != length + 1 || name.size <= length ||
        memcmp(name.data, search->name, length + 1) != 0)
        return;
    span_skip(&message, size_round_up(type_size, unit));
    if (span_skip(&message, size_round_up(space_size, unit))) search->found = message;
}

static void read_block(struct search *search, struct hdf5_span block);

static void search_follow(struct search *search, struct hdf5_span message)
{
    uint64_t address = span_number(&message, 8), size = span_number(&message, 8);
    struct hdf5_span block = search->file;
    if (++search->blocks > MAX_BLOCKS || !span_skip(&block, address) || size > block.size) return;
    block = span_take(&block, size);
    if (search->second && (!begins_with(block, "OCHK") || !span_skip(&block, 4))) return;
    read_block(search, block);
}

/* A header that continues in itself ends, because blocks are counted. */
static void read_block(struct search *search, struct hdf5_span block) // NOLINT(misc-no-recursion)
{
    size_t head = search->second ? 4 + search->more : 8;
    while (block.size >= head && !search->found.data) {
        uint64_t type = span_number(&block, search->second ? 1 : 2), size = span_number(&block, 2);
        span_skip(&block, search->second ? 1 + search->more : 4);
        struct hdf5_span message = span_take(&block, size);
        if (type == MESSAGE_ATTRIBUTE) read_attribute(search, message);
        if (type == MESSAGE_CONTINUATION) search_follow(search, message);
    }
}

static void read_header(struct search *search, struct hdf5_span header)
{
    search->second = begins_with(header, "OHDR");
    if (!search->second) {
        span_skip(&header, 8);
        size_t size = (size_t)span_number(&header, 4);
        span_skip(&header, 4);
        read_block(search, span_take(&header, size));
        return;
    }
    span_skip(&header, 5);
    uint64_t flags = span_number(&header, 1);
    search->more = flags & 0x04 ? 2 : 0;
    span_skip(&header, (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0));
    size_t size = (size_t)span_number(&header, (size_t)1 << (flags & 3));
    read_block(search, span_take(&header, size));
}

/* --- The heap --- */

static bool find_object(struct hdf5_span file, uint64_t address, uint64_t wanted, struct hdf5_span *object)
{
    if (!span_skip(&file, address) || !begins_with(file, "GCOL")) return false;
    struct hdf5_span heap = file;
    span_skip(&heap, 8);
    uint64_t total = span_number(&heap, 8);
    if (total > file.size || total < 16) return false;
    heap.size = total - 16;
    while (heap.size >= 16) {
        uint64_t index = span_number(&heap, 2);
        span_skip(&heap, 6);
        uint64_t size = span_number(&heap, 8);
        if (index == 0 || size > heap.size) return false;
        if (index == wanted) {
            *object = (struct hdf5_span){heap.data, size};
            return true;
        }
        span_skip(&heap, size_round_up(size, 8));
    }
    return false;
}

static bool read_reference(struct hdf5_span file, struct hdf5_span *references, struct hdf5_text *text)
{
    struct hdf5_span object = {0};
    uint64_t length = span_number(references, 4), address = span_number(references, 8),
             index = span_number(references, 4);
    *text = (struct hdf5_text){"", 0};
    if (length == 0) return true;
    if (index == 0 || !find_object(file, address, index, &object) || length > object.size) return false;
    *text = (struct hdf5_text){(const char *)object.data, strnlen((const char *)object.data, length)};
    return true;
}

/* Whether addresses have eight bytes and count from the start of the file. */
static bool addresses_are_plain(struct hdf5_span file)
{
    span_skip(&file, 8);
    uint64_t version = span_number(&file, 1);
    span_skip(&file, version < 2 ? 4 : 0);
    uint64_t offsets = span_number(&file, 1), lengths = span_number(&file, 1);
    span_skip(&file, version == 0 ? 9 : version == 1 ? 13 : 1);
    return file.size >= 8 && offsets == 8 && lengths == 8 && span_number(&file, 8) == 0;
}

bool hdf5_heap_texts(const unsigned char *image, size_t size, uint64_t address, const char *name,
                     struct hdf5_text *texts, size_t count)
{
    struct search search = {.file = {image, size}, .name = name};
    struct hdf5_span header = search.file;
    if (!addresses_are_plain(search.file) || !span_skip(&header, address)) return false;
    read_header(&search, header);
    if (search.found.size / REFERENCE_SIZE < count) return false;
    for (size_t i = 0; i < count; i++)
        if (!read_reference(search.file, &search.found, &texts[i])) return false;
    return true;
}
