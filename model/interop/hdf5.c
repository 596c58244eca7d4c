#include "model/interop/hdf5.h"

#include <hdf5.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "model/interop/hdf5_heap.h"

#define NOWHERE     "/dev/null/image" /* the library checks whether a file of the image's name exists */
#define ROOT        "the root group"
#define MAX_PATH    1024u
#define MAX_MEMBERS 4096u
#define MAX_TEXTS   4096u
#define MAX_CHUNKS  64u /* parts of a split attribute */
#define MAX_TEXT    ((size_t)1 << 24)
#define GROWTH      ((size_t)1 << 16) /* bytes by which a file in memory grows while it is written */

struct hdf5 {
    hid_t id;
    const void *image; /* NULL: the file is being written */
    size_t size;
    const char *place;
    struct arena arena;
};

/* The lock is held while a file is open. */
static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

/* --- What went wrong --- */

static herr_t first_reason(unsigned n, const H5E_error2_t *entry, void *text)
{
    if (n == 0) *(const char **)text = entry->desc;
    return 0;
}

/* "place: path: problem (the library's reason)". */
static bool hdf5_refuse(const struct hdf5 *file, const char *path, struct error *err, const char *problem)
{
    const char *reason = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, &reason);
    error_set(err, ERROR_CORRUPT, "%s: %.200s: %s%s%.150s%s", file->place, *path ? path : ROOT, problem,
              reason ? " (" : "", reason ? reason : "", reason ? ")" : "");
    H5Eclear2(H5E_DEFAULT);
    return false;
}

static bool cannot_write(struct error *err, const char *path)
{
    const char *reason = NULL;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, &reason);
    error_set(err, ERROR_NO_MEMORY, "the HDF5 library could not write %.200s: %.150s", *path ? path : ROOT,
              reason ? reason : "no reason given");
    H5Eclear2(H5E_DEFAULT);
    return false;
}

/* --- A file is an image: the library works on the caller's bytes instead of copies --- */

static void *borrow_image(size_t size, H5FD_file_image_op_t operation, void *image)
{
    (void)size;
    (void)operation;
    return image;
}

static void *keep_image(void *to, const void *from, size_t size, H5FD_file_image_op_t operation, void *image)
{
    (void)from;
    (void)size;
    (void)operation;
    (void)image;
    return to;
}

static void *refuse_growth(void *image, size_t size, H5FD_file_image_op_t operation, void *context)
{
    (void)image;
    (void)size;
    (void)operation;
    (void)context;
    return NULL;
}

static herr_t leave_image(void *image, H5FD_file_image_op_t operation, void *context)
{
    (void)image;
    (void)operation;
    (void)context;
    return 0;
}

static void *same_image(void *image)
{
    return image;
}

static herr_t forget_image(void *image)
{
    (void)image;
    return 0;
}

/* Settings for a file in memory. `image` NULL: a new one. */
static hid_t in_memory(void *image, size_t size)
{
    hid_t settings = H5Pcreate(H5P_FILE_ACCESS);
    if (settings < 0) return settings;
    H5FD_file_image_callbacks_t callbacks = {borrow_image, keep_image,   refuse_growth, leave_image,
                                             same_image,   forget_image, image};
    bool ok = H5Pset_fapl_core(settings, GROWTH, 0) >= 0 && H5Pset_fclose_degree(settings, H5F_CLOSE_STRONG) >= 0;
    if (ok && image)
        ok = H5Pset_file_image_callbacks(settings, &callbacks) >= 0 && H5Pset_file_image(settings, image, size) >= 0;
    if (ok) return settings;
    H5Pclose(settings);
    return H5I_INVALID_HID;
}

/* On success the caller holds the lock. */
static struct hdf5 *new_file(const char *place, struct error *err)
{
    struct hdf5 *file = calloc(1, sizeof *file);
    if (!file) {
        error_set_no_memory(err, sizeof *file, "an HDF5 file");
        return NULL;
    }
    file->place = arena_copy_text(&file->arena, place, strlen(place), err);
    if (!file->place) {
        arena_free(&file->arena);
        free(file);
        return NULL;
    }
    file->id = H5I_INVALID_HID;
    pthread_mutex_lock(&library);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    return file;
}

bool hdf5_recognise(const void *data, size_t size)
{
    return size >= 8 && memcmp(data, "\211HDF\r\n\032\n", 8) == 0;
}

struct hdf5 *hdf5_open(const void *image, size_t size, const char *place, struct error *err)
{
    struct hdf5 *file = new_file(place, err);
    if (!file) return NULL;
    file->image = image;
    file->size = size;
    if (hdf5_recognise(image, size)) {
        hid_t settings = in_memory((void *)(uintptr_t)image, size);
        if (settings >= 0) {
            file->id = H5Fopen(NOWHERE, H5F_ACC_RDONLY, settings);
            if (file->id < 0) hdf5_refuse(file, "", err, "not all of an HDF5 file");
            H5Pclose(settings);
        }
    }
    if (file->id >= 0) return file;
    hdf5_refuse(file, "", err, "not an HDF5 file");
    hdf5_close(file);
    return NULL;
}

struct hdf5 *hdf5_create(struct error *err)
{
    struct hdf5 *file = new_file("a new file", err);
    if (!file) return NULL;
    hid_t settings = in_memory(NULL, 0);
    if (settings >= 0) {
        file->id = H5Fcreate(NOWHERE, H5F_ACC_TRUNC, H5P_DEFAULT, settings);
        H5Pclose(settings);
    }
    if (file->id >= 0) return file;
    cannot_write(err, "");
    hdf5_close(file);
    return NULL;
}

void hdf5_close(struct hdf5 *file)
{
    if (!file) return;
    if (file->id >= 0) H5Fclose(file->id);
    H5Eclear2(H5E_DEFAULT);
    pthread_mutex_unlock(&library);
    arena_free(&file->arena);
    free(file);
}

/* --- Finding objects --- */

/* Copies the next non-empty part of a path into `part`; *path moves behind it. False at the end. */
static bool next_part(const char **path, char part[MAX_PATH])
{
    *path += strspn(*path, "/");
    size_t n = strcspn(*path, "/");
    memcpy(part, *path, n);
    part[n] = '\0';
    *path += n;
    return n > 0;
}

/* Opens the object `name` of a group, or gives H5I_INVALID_HID; *absent: there is no such object. */
static hid_t open_member(hid_t group, const char *name, bool *absent)
{
    H5L_info_t link;
    *absent = H5Lexists(group, name, H5P_DEFAULT) == 0;
    if (*absent || H5Lget_info(group, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        return H5I_INVALID_HID;
    return H5Oopen(group, name, H5P_DEFAULT);
}

/* Walks from group to group and looks at every link. It does not follow a link that leads elsewhere. */
static hid_t open_object(const struct hdf5 *file, const char *path, struct error *err)
{
    char part[MAX_PATH];
    bool absent = false;
    if (strlen(path) >= sizeof part) {
        error_set(err, ERROR_CORRUPT, "%s: a path of %zu bytes, more than %u", file->place, strlen(path), MAX_PATH - 1);
        return H5I_INVALID_HID;
    }
    hid_t object = H5Gopen2(file->id, "/", H5P_DEFAULT);
    for (const char *rest = path; object >= 0 && next_part(&rest, part);) {
        hid_t member = H5Iget_type(object) == H5I_GROUP ? open_member(object, part, &absent) : H5I_INVALID_HID;
        H5Oclose(object);
        object = member;
    }
    if (object >= 0) return object;
    if (absent)
        error_set(err, ERROR_NOT_FOUND, "%s: there is no %.300s in the file", file->place, path);
    else
        hdf5_refuse(file, path, err, "cannot be opened, or is behind a link that is not a hard link");
    H5Eclear2(H5E_DEFAULT);
    return H5I_INVALID_HID;
}

bool hdf5_exists(struct hdf5 *file, const char *path)
{
    hid_t object = open_object(file, path, NULL);
    if (object < 0) return false;
    H5Oclose(object);
    return true;
}

struct hdf5_listing {
    struct hdf5 *file;
    struct hdf5_texts *names;
    struct error *err;
};

static herr_t add_member(hid_t group, const char *name, const H5L_info_t *link, void *context)
{
    struct hdf5_listing *listing = context;
    (void)group;
    (void)link;
    if (listing->names->count == MAX_MEMBERS) {
        error_set(listing->err, ERROR_TOO_LARGE, "more than %u members", MAX_MEMBERS);
        return -1;
    }
    const char *copy = arena_copy_text(&listing->file->arena, name, strlen(name), listing->err);
    if (!copy) return -1;
    listing->names->items[listing->names->count++] = copy;
    return 0;
}

bool hdf5_members(struct hdf5 *file, const char *path, struct hdf5_texts *names, struct error *err)
{
    struct error problem = {0};
    *names = (struct hdf5_texts){0};
    names->items = arena_alloc(&file->arena, MAX_MEMBERS, sizeof *names->items, "names of a group", err);
    if (!names->items) return false;
    hid_t group = open_object(file, path, err);
    if (group < 0) return false;
    struct hdf5_listing listing = {file, names, &problem};
    bool is_group = H5Iget_type(group) == H5I_GROUP;
    bool ok = is_group && H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, add_member, &listing) >= 0;
    H5Oclose(group);
    if (ok) return true;
    if (problem.code == ERROR_NONE)
        return hdf5_refuse(file, path, err, is_group ? "cannot be listed" : "is not a group");
    H5Eclear2(H5E_DEFAULT);
    return error_set(err, problem.code, "%s: %.200s: %.150s", file->place, *path ? path : ROOT, problem.message);
}

/* --- Attributes --- */

/* An open attribute of text. */
struct attribute {
    hid_t id, type, space;
    size_t count; /* texts */
    size_t width; /* bytes of one; 0: of variable length */
    bool text;
};

static void close_attribute(const struct attribute *attribute)
{
    if (attribute->space >= 0) H5Sclose(attribute->space);
    if (attribute->type >= 0) H5Tclose(attribute->type);
    if (attribute->id >= 0) H5Aclose(attribute->id);
}

/* id < 0 with true: no attribute has that name. */
static bool open_attribute(const struct hdf5 *file, const char *path, const char *name, struct attribute *attribute,
                           struct error *err)
{
    *attribute = (struct attribute){H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID, 0, 0, false};
    hid_t object = open_object(file, path, err);
    if (object < 0) return false;
    htri_t there = H5Aexists(object, name);
    if (there > 0) attribute->id = H5Aopen(object, name, H5P_DEFAULT);
    H5Oclose(object);
    if (there == 0) return true;
    if (attribute->id < 0) return hdf5_refuse(file, path, err, "an attribute cannot be opened");
    attribute->type = H5Aget_type(attribute->id);
    attribute->space = H5Aget_space(attribute->id);
    hssize_t count = attribute->space >= 0 ? H5Sget_simple_extent_npoints(attribute->space) : -1;
    attribute->text = attribute->type >= 0 && H5Tget_class(attribute->type) == H5T_STRING;
    if (attribute->text && H5Tis_variable_str(attribute->type) == 0) attribute->width = H5Tget_size(attribute->type);
    if (count < 0 || count > MAX_TEXTS || (count > 0 && !attribute->text) || attribute->width > MAX_TEXT ||
        (size_t)count * attribute->width > file->size)
        return hdf5_refuse(file, path, err, "an attribute is not text, or longer than the file");
    attribute->count = (size_t)count;
    return true;
}

static bool copy_text(struct hdf5 *file, const char *text, size_t n, const char **copy, struct error *err)
{
    *copy = arena_copy_text(&file->arena, text, n, err);
    return *copy;
}

/* Copies texts of one width each; NUL or the width ends each. */
static bool read_fixed(struct hdf5 *file, const char *path, const struct attribute *attribute, const char **texts,
                       struct error *err)
{
    char *bytes = arena_alloc(&file->arena, attribute->count, attribute->width, "texts of an attribute", err);
    if (!bytes) return false;
    if (H5Aread(attribute->id, attribute->type, bytes) < 0)
        return hdf5_refuse(file, path, err, "an attribute cannot be read");
    for (size_t i = 0; i < attribute->count; i++) {
        const char *text = bytes + i * attribute->width;
        if (!copy_text(file, text, strnlen(text, attribute->width), &texts[i], err)) return false;
    }
    return true;
}

/* The place of the object's header in the file. */
static bool find_header(const struct hdf5 *file, const char *path, uint64_t *address, struct error *err)
{
    hid_t object = open_object(file, path, err);
    if (object < 0) return false;
#if H5_VERSION_GE(1, 12, 0)
    H5O_info1_t info;
    bool ok = H5Oget_info1(object, &info) >= 0;
#else
    H5O_info_t info;
    bool ok = H5Oget_info(object, &info) >= 0;
#endif
    H5Oclose(object);
    *address = info.addr;
    return ok || hdf5_refuse(file, path, err, "cannot be found");
}

static bool read_variable(struct hdf5 *file, const char *path, const char *name, size_t count, const char **texts,
                          struct error *err)
{
    uint64_t address;
    struct hdf5_text *found = arena_alloc(&file->arena, count, sizeof *found, "texts of an attribute", err);
    if (!found || !find_header(file, path, &address, err)) return false;
    if (!hdf5_heap_texts(file->image, file->size, address, name, found, count))
        return hdf5_refuse(file, path, err, "an attribute's texts are not where they should be");
    for (size_t i = 0; i < count; i++)
        if (!copy_text(file, found[i].data, found[i].size, &texts[i], err)) return false;
    return true;
}

/* Appends the attribute's texts. *there: the attribute exists. */
static bool append_texts(struct hdf5 *file, const char *path, const char *name, struct hdf5_texts *texts, bool *there,
                         struct error *err)
{
    struct attribute attribute;
    bool ok = open_attribute(file, path, name, &attribute, err);
    *there = ok && attribute.id >= 0;
    if (*there && attribute.count > 0) {
        const char **grown = arena_alloc(&file->arena, texts->count + attribute.count, sizeof *grown, "texts", err);
        ok = grown;
        if (ok && texts->count > 0) memcpy(grown, texts->items, texts->count * sizeof *grown);
        const char **added = ok ? grown + texts->count : NULL;
        if (ok)
            ok = attribute.width > 0 ? read_fixed(file, path, &attribute, added, err)
                                     : read_variable(file, path, name, attribute.count, added, err);
        if (ok) *texts = (struct hdf5_texts){grown, texts->count + attribute.count};
    }
    close_attribute(&attribute);
    return ok;
}

static bool no_attribute(const struct hdf5 *file, const char *path, const char *attribute, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "%s: %.200s has no attribute %s", file->place, *path ? path : ROOT,
                     attribute);
}

bool hdf5_texts(struct hdf5 *file, const char *path, const char *attribute, struct hdf5_texts *texts, struct error *err)
{
    bool there;
    *texts = (struct hdf5_texts){0};
    if (!append_texts(file, path, attribute, texts, &there, err)) return false;
    for (unsigned part = 0; !there || part > 0; part++) {
        char name[64];
        if (part == MAX_CHUNKS) return hdf5_refuse(file, path, err, "an attribute is split into too many parts");
        (void)snprintf(name, sizeof name, "%s%u", attribute, part);
        if (!append_texts(file, path, name, texts, &there, err)) return false;
        if (!there) return part > 0 || no_attribute(file, path, attribute, err);
    }
    return true;
}

const char *hdf5_text(struct hdf5 *file, const char *path, const char *attribute, struct error *err)
{
    bool there;
    struct hdf5_texts texts = {0};
    if (!append_texts(file, path, attribute, &texts, &there, err)) return NULL;
    if (!there)
        no_attribute(file, path, attribute, err);
    else if (texts.count != 1)
        hdf5_refuse(file, path, err, "an attribute is not one text");
    return texts.count == 1 ? texts.items[0] : NULL;
}

/* --- Tensors --- */

static bool is_float(hid_t type)
{
    return H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0 ||
           H5Tequal(type, H5T_IEEE_F64LE) > 0 || H5Tequal(type, H5T_IEEE_F64BE) > 0;
}

/* Whether the data lies in this file, in one piece and unchanged. */
static bool is_plain(const struct hdf5 *file, hid_t dataset, size_t bytes)
{
    hid_t plan = H5Dget_create_plist(dataset);
    if (plan < 0) return false;
    H5D_layout_t layout = H5Pget_layout(plan);
    bool inside = layout == H5D_COMPACT;
    if (layout == H5D_CONTIGUOUS && H5Pget_external_count(plan) == 0) {
        haddr_t offset = H5Dget_offset(dataset);
        inside = offset != HADDR_UNDEF && offset <= file->size && bytes <= file->size - offset;
    }
    bool plain = inside && H5Pget_nfilters(plan) == 0 && H5Dget_storage_size(dataset) == bytes;
    H5Pclose(plan);
    return plain;
}

static bool read_shape(hid_t space, struct hdf5_shape *shape)
{
    hsize_t dimensions[HDF5_MAX_RANK];
    int rank = H5Sget_simple_extent_ndims(space);
    if (H5Sis_simple(space) <= 0 || rank < 1 || rank > HDF5_MAX_RANK) return false;
    if (H5Sget_simple_extent_dims(space, dimensions, NULL) != rank) return false;
    *shape = (struct hdf5_shape){.rank = (size_t)rank, .count = 1};
    for (size_t i = 0; i < shape->rank; i++) {
        shape->dimensions[i] = dimensions[i];
        if (!size_multiply(shape->count, dimensions[i], &shape->count)) return false;
    }
    return true;
}

static bool check_tensor(const struct hdf5 *file, const char *path, hid_t dataset, struct hdf5_shape *shape,
                         struct error *err)
{
    if (H5Iget_type(dataset) != H5I_DATASET) return hdf5_refuse(file, path, err, "is not a tensor");
    size_t bytes;
    hid_t space = H5Dget_space(dataset), type = H5Dget_type(dataset);
    bool shaped = space >= 0 && read_shape(space, shape);
    bool real = type >= 0 && is_float(type);
    bool plain =
        shaped && real && size_multiply(shape->count, H5Tget_size(type), &bytes) && is_plain(file, dataset, bytes);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (!shaped) return hdf5_refuse(file, path, err, "its shape cannot be read, or has no or too many dimensions");
    if (!real) return hdf5_refuse(file, path, err, "is not a tensor of float32 or float64");
    if (!plain)
        return hdf5_refuse(
            file, path, err,
            "its data is chunked, compressed or not all in this file; Keras does not write that (h5repack -l "
            "CONTI -f NONE makes it plain)");
    return true;
}

bool hdf5_shape(struct hdf5 *file, const char *path, struct hdf5_shape *shape, struct error *err)
{
    hid_t dataset = open_object(file, path, err);
    if (dataset < 0) return false;
    bool ok = check_tensor(file, path, dataset, shape, err);
    H5Oclose(dataset);
    return ok;
}

bool hdf5_read(struct hdf5 *file, const char *path, float *out, size_t count, struct error *err)
{
    struct hdf5_shape shape;
    hid_t dataset = open_object(file, path, err);
    if (dataset < 0) return false;
    bool ok = check_tensor(file, path, dataset, &shape, err);
    if (ok && shape.count != count) ok = hdf5_refuse(file, path, err, "has another size than expected");
    if (ok && H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        ok = hdf5_refuse(file, path, err, "cannot be read");
    H5Oclose(dataset);
    return ok;
}

/* --- Writing --- */

bool hdf5_write_group(struct hdf5 *file, const char *path, struct error *err)
{
    if (*path == '\0' || H5Lexists(file->id, path, H5P_DEFAULT) > 0) return true;
    hid_t links = H5Pcreate(H5P_LINK_CREATE), group = H5I_INVALID_HID;
    if (links >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0)
        group = H5Gcreate2(file->id, path, links, H5P_DEFAULT, H5P_DEFAULT);
    if (group >= 0) H5Gclose(group);
    if (links >= 0) H5Pclose(links);
    return group >= 0 || cannot_write(err, path);
}

struct text_attribute {
    const char *path, *name, *bytes; /* bytes: texts of `width` bytes each */
    size_t width;
};

/* `space` says how many texts there are; this closes it. */
static bool write_attribute(struct hdf5 *file, const struct text_attribute *text, hid_t space, struct error *err)
{
    const char *path = text->path;
    hid_t type = H5Tcopy(H5T_C_S1), attribute = H5I_INVALID_HID;
    if (type >= 0 && space >= 0 && H5Tset_size(type, text->width) >= 0 && H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0)
        attribute = H5Acreate_by_name(file->id, *path ? path : "/", text->name, type, space, H5P_DEFAULT, H5P_DEFAULT,
                                      H5P_DEFAULT);
    bool ok = attribute >= 0 && H5Awrite(attribute, type, text->bytes) >= 0;
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return ok || cannot_write(err, path);
}

bool hdf5_write_text(struct hdf5 *file, const char *path, const char *attribute, const char *text, struct error *err)
{
    size_t n = strlen(text);
    const struct text_attribute written = {path, attribute, text, n > 0 ? n : 1};
    return hdf5_write_group(file, path, err) && write_attribute(file, &written, H5Screate(H5S_SCALAR), err);
}

bool hdf5_write_texts(struct hdf5 *file, const char *path, const char *attribute, const struct hdf5_texts *texts,
                      struct error *err)
{
    size_t width = 1;
    for (size_t i = 0; i < texts->count; i++)
        if (strlen(texts->items[i]) > width) width = strlen(texts->items[i]);
    char *bytes = calloc(texts->count + 1, width);
    if (!bytes) return error_set_no_memory(err, (texts->count + 1) * width, "an attribute");
    for (size_t i = 0; i < texts->count; i++) memcpy(bytes + i * width, texts->items[i], strlen(texts->items[i]));
    hsize_t dimension = texts->count;
    hid_t space = H5Screate_simple(1, &dimension, NULL);
    const struct text_attribute written = {path, attribute, bytes, width};
    bool ok = hdf5_write_group(file, path, err) && write_attribute(file, &written, space, err);
    free(bytes);
    return ok;
}

bool hdf5_write(struct hdf5 *file, const char *path, const struct hdf5_shape *shape, const float *data,
                struct error *err)
{
    hsize_t dimensions[HDF5_MAX_RANK];
    for (size_t i = 0; i < shape->rank; i++) dimensions[i] = shape->dimensions[i];
    hid_t links = H5Pcreate(H5P_LINK_CREATE), space = H5Screate_simple((int)shape->rank, dimensions, NULL);
    hid_t dataset = H5I_INVALID_HID;
    if (links >= 0 && space >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0)
        dataset = H5Dcreate2(file->id, path, H5T_IEEE_F32LE, space, links, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = dataset >= 0 && H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (dataset >= 0) H5Dclose(dataset);
    if (space >= 0) H5Sclose(space);
    if (links >= 0) H5Pclose(links);
    return ok || cannot_write(err, path);
}

bool hdf5_image(struct hdf5 *file, unsigned char **image, size_t *size, struct error *err)
{
    ssize_t bytes = H5Fflush(file->id, H5F_SCOPE_LOCAL) >= 0 ? H5Fget_file_image(file->id, NULL, 0) : -1;
    if (bytes <= 0) return cannot_write(err, "");
    *image = malloc((size_t)bytes);
    if (!*image) return error_set_no_memory(err, (size_t)bytes, "an HDF5 file");
    *size = (size_t)bytes;
    if (H5Fget_file_image(file->id, *image, *size) == bytes) return true;
    free(*image);
    return cannot_write(err, "");
}
