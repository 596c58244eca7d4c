#include "model/interop/zip.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zip.h>

#include "base/string_table.h"

/* A deflated byte gives at most 1032 bytes (RFC 1951: 258 bytes for two bits), and every stream has a byte. */
#define DEFLATE_MAX_RATIO 1032

struct interop_zip {
    const char *name;
    size_t size; /* of the archive */
    zip_t *archive;
    struct string_table names; /* by index in the archive */
};

/* ---- opening ---- */

static bool set_zip_error(zip_error_t *cause, const char *name, struct error *err)
{
    enum error_code code = zip_error_code_zip(cause) == ZIP_ER_MEMORY ? ERROR_NO_MEMORY : ERROR_CORRUPT;
    error_set(err, code, "%s: not a readable zip archive: %s", name, zip_error_strerror(cause));
    zip_error_fini(cause);
    return false;
}

static bool open_archive(struct interop_zip *zip, const void *data, struct error *err)
{
    zip_error_t cause;
    zip_error_init(&cause);
    zip_source_t *source = zip_source_buffer_create(data, zip->size, 0, &cause);
    if (!source) return set_zip_error(&cause, zip->name, err);
    zip->archive = zip_open_from_source(source, ZIP_RDONLY, &cause);
    if (zip->archive) {
        zip_error_fini(&cause);
        return true;
    }
    zip_source_free(source);
    return set_zip_error(&cause, zip->name, err);
}

/* Whether a name stays inside of the directory to which it would be unpacked: relative, without "..", without
 * separators and drives of other systems. */
static bool name_is_inside(const char *name)
{
    if (*name == '\0' || *name == '/' || strpbrk(name, "\\:")) return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return false;
    }
    return true;
}

static bool check_size(const struct interop_zip *zip, const zip_stat_t *entry, struct error *err)
{
    uint64_t packed = entry->comp_size, most = entry->comp_method == ZIP_CM_STORE ? packed : packed * DEFLATE_MAX_RATIO;
    if (packed > zip->size || entry->size > most || (entry->comp_method == ZIP_CM_STORE && entry->size != packed))
        return error_set(err, ERROR_CORRUPT, "%s: entry \"%.128s\" cannot be %llu bytes: %llu are in the archive",
                         zip->name, entry->name, (unsigned long long)entry->size, (unsigned long long)packed);
    return true;
}

static bool check_entry(const struct interop_zip *zip, const zip_stat_t *entry, struct error *err)
{
    const zip_uint64_t needed =
        ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if ((entry->valid & needed) != needed)
        return error_set(err, ERROR_CORRUPT, "%s: an entry of the archive lacks a size or a name", zip->name);
    if (!name_is_inside(entry->name))
        return error_set(err, ERROR_CORRUPT, "%s: entry \"%.128s\" has a name that leads out of the archive", zip->name,
                         entry->name);
    if (entry->encryption_method != ZIP_EM_NONE)
        return error_set(err, ERROR_CORRUPT, "%s: entry \"%.128s\" is encrypted", zip->name, entry->name);
    if (entry->comp_method != ZIP_CM_STORE && entry->comp_method != ZIP_CM_DEFLATE)
        return error_set(err, ERROR_CORRUPT,
                         "%s: entry \"%.128s\" is packed by method %u; 0 (stored) and 8 (deflated) "
                         "are read",
                         zip->name, entry->name, (unsigned)entry->comp_method);
    return check_size(zip, entry, err);
}

static bool add_entry(struct interop_zip *zip, zip_uint64_t index, struct error *err)
{
    zip_stat_t entry;
    uint32_t number;
    bool added;
    if (zip_stat_index(zip->archive, index, ZIP_FL_ENC_RAW, &entry) != 0)
        return error_set(err, ERROR_CORRUPT, "%s: entry %llu: %s", zip->name, (unsigned long long)index,
                         zip_strerror(zip->archive));
    if (!check_entry(zip, &entry, err)) return false;
    if (!string_table_insert(&zip->names, entry.name, strlen(entry.name), &number, &added, err)) return false;
    return added || error_set(err, ERROR_CORRUPT, "%s: two entries are named \"%.128s\"", zip->name, entry.name);
}

static bool read_directory(struct interop_zip *zip, struct error *err)
{
    zip_int64_t count = zip_get_num_entries(zip->archive, 0);
    if (count <= 0) return error_set(err, ERROR_CORRUPT, "%s: the archive is empty", zip->name);
    if (count > INTEROP_ZIP_MAX_ENTRIES)
        return error_set(err, ERROR_TOO_LARGE, "%s: the archive has %lld entries; at most %d are read", zip->name,
                         (long long)count, INTEROP_ZIP_MAX_ENTRIES);
    for (zip_int64_t i = 0; i < count; i++)
        if (!add_entry(zip, (zip_uint64_t)i, err)) return false;
    return true;
}

struct interop_zip *interop_zip_open(const char *name, const void *data, size_t size, struct error *err)
{
    struct interop_zip *zip = calloc(1, sizeof *zip);
    if (!zip) {
        error_set_no_memory(err, sizeof *zip, "a zip archive");
        return NULL;
    }
    zip->name = name;
    zip->size = size;
    if (open_archive(zip, data, err) && read_directory(zip, err)) return zip;
    interop_zip_close(zip);
    return NULL;
}

void interop_zip_close(struct interop_zip *zip)
{
    if (!zip) return;
    if (zip->archive) zip_discard(zip->archive);
    string_table_free(&zip->names);
    free(zip);
}

/* ---- reading ---- */

size_t interop_zip_count(const struct interop_zip *zip)
{
    return zip->names.count;
}

const char *interop_zip_name(const struct interop_zip *zip, size_t index)
{
    size_t n;
    return string_table_get(&zip->names, (uint32_t)index, &n);
}

bool interop_zip_has(const struct interop_zip *zip, const char *name)
{
    return string_table_find(&zip->names, name, strlen(name)) != STRING_TABLE_NONE;
}

/* Reads exactly `size` bytes. Then the entry must end, with the checksum that the directory gave. */
static bool read_content(zip_file_t *file, char *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        zip_int64_t n = zip_fread(file, data + at, size - at);
        if (n <= 0) return false;
        at += (size_t)n;
    }
    char beyond;
    return zip_fread(file, &beyond, 1) == 0;
}

static bool read_entry(struct interop_zip *zip, uint32_t index, char *data, size_t size, struct error *err)
{
    const char *name = interop_zip_name(zip, index);
    zip_file_t *file = zip_fopen_index(zip->archive, index, 0);
    if (!file)
        return error_set(err, ERROR_CORRUPT, "%s: entry \"%.128s\": %s", zip->name, name, zip_strerror(zip->archive));
    bool ok = read_content(file, data, size);
    if (!ok)
        error_set(err, ERROR_CORRUPT, "%s: entry \"%.128s\" is damaged: %s", zip->name, name,
                  zip_error_code_zip(zip_file_get_error(file)) == ZIP_ER_OK ? "not as long as the directory says"
                                                                            : zip_file_strerror(file));
    zip_fclose(file);
    return ok;
}

bool interop_zip_read(struct interop_zip *zip, const char *name, size_t max_bytes, char **data, size_t *size,
                      struct error *err)
{
    zip_stat_t entry;
    uint32_t index = string_table_find(&zip->names, name, strlen(name));
    if (index == STRING_TABLE_NONE || zip_stat_index(zip->archive, index, 0, &entry) != 0)
        return error_set(err, ERROR_NOT_FOUND, "%s: there is no entry \"%.128s\" in the archive", zip->name, name);
    if (entry.size > max_bytes || entry.size >= SIZE_MAX)
        return error_set(err, ERROR_TOO_LARGE, "%s: entry \"%.128s\" is %llu bytes, but at most %zu are read",
                         zip->name, name, (unsigned long long)entry.size, max_bytes);
    *size = (size_t)entry.size;
    *data = malloc(*size + 1);
    if (!*data) return error_set_no_memory(err, *size + 1, "an entry of a zip archive");
    (*data)[*size] = '\0';
    if (read_entry(zip, index, *data, *size, err)) return true;
    free(*data);
    *data = NULL;
    return false;
}
