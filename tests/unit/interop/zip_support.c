#include "tests/unit/interop/zip_support.h"

#include <assert.h>
#include <string.h>

/* CRC-32 of ISO 3309, bit by bit. */
static uint32_t checksum_of(const unsigned char *data, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ UINT32_C(0xEDB88320) : crc >> 1;
    }
    return ~crc;
}

struct writer {
    unsigned char *out;
    size_t size;
};

static void put_bytes(struct writer *writer, const void *data, size_t n)
{
    assert(writer->size + n <= ZIP_SUPPORT_MAX);
    if (n > 0) memcpy(writer->out + writer->size, data, n);
    writer->size += n;
}

static void put(struct writer *writer, size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes; i++, value >>= 8) put_bytes(writer, &(unsigned char){(unsigned char)value}, 1);
}

/* Writes what a local header and a row of the directory have in common. */
static void put_fields(struct writer *writer, const struct made_entry *entry)
{
    put(writer, 2, 20);
    put(writer, 2, entry->flags);
    put(writer, 2, entry->method);
    put(writer, 4, 0x00210000); /* 1980-01-01 */
    put(writer, 4, entry->checksum ? entry->checksum : checksum_of(entry->data, entry->size));
    put(writer, 4, entry->size);
    put(writer, 4, entry->unpacked ? entry->unpacked : entry->size);
    put(writer, 2, strlen(entry->name));
    put(writer, 2, 0);
}

size_t make_zip(const struct made_entry *entries, size_t count, unsigned char *out)
{
    struct writer writer = {.out = out};
    size_t offsets[16];
    assert(count <= sizeof offsets / sizeof *offsets);
    for (size_t i = 0; i < count; i++) {
        offsets[i] = writer.size;
        put(&writer, 4, 0x04034B50);
        put_fields(&writer, &entries[i]);
        put_bytes(&writer, entries[i].name, strlen(entries[i].name));
        put_bytes(&writer, entries[i].data, entries[i].size);
    }
    size_t directory = writer.size;
    for (size_t i = 0; i < count; i++) {
        put(&writer, 4, 0x02014B50);
        put(&writer, 2, 20);
        put_fields(&writer, &entries[i]);
        put(&writer, 10, 0);
        put(&writer, 4, offsets[i]);
        put_bytes(&writer, entries[i].name, strlen(entries[i].name));
    }
    size_t end = writer.size;
    put(&writer, 4, 0x06054B50);
    put(&writer, 4, 0);
    put(&writer, 2, count);
    put(&writer, 2, count);
    put(&writer, 4, end - directory);
    put(&writer, 4, directory);
    put(&writer, 2, 0);
    return writer.size;
}
