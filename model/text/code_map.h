/* A map from code points (or bytes) to small numbers. It has two levels of tables, so a look-up is two loads and no
 * branch.
 *
 * `struct code_map m; code_map_init(&m, err)` ... code_map_free(&m). A code point that nobody set maps to
 * CODE_MAP_NONE. Threads may look up together while nobody changes the map.
 */
#ifndef LSTMD_MODEL_TEXT_CODE_MAP_H
#define LSTMD_MODEL_TEXT_CODE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define CODE_MAP_NONE  UINT32_MAX
#define CODE_MAP_PAGE  256u
#define CODE_MAP_PAGES (0x110000u / CODE_MAP_PAGE)

struct code_map {
    uint32_t (*pages)[CODE_MAP_PAGE];   /* page 0 stays empty, for all code points without a page */
    uint16_t directory[CODE_MAP_PAGES]; /* code_point / CODE_MAP_PAGE -> page */
    uint16_t page_count;
};

/* Free with code_map_free(), also after a failure. An all-zero map may be freed, too. */
bool code_map_init(struct code_map *map, struct error *err);
void code_map_free(struct code_map *map);

/* code_point <= 0x10FFFF. */
static inline uint32_t code_map_get(const struct code_map *map, uint32_t code_point)
{
    return map->pages[map->directory[code_point / CODE_MAP_PAGE]][code_point % CODE_MAP_PAGE];
}

bool code_map_set(struct code_map *map, uint32_t code_point, uint32_t value, struct error *err);

#endif
