#include "model/text/code_map.h"

#include <stdlib.h>
#include <string.h>

static bool add_page(struct code_map *map, struct error *err)
{
    size_t bytes = ((size_t)map->page_count + 1) * sizeof *map->pages;
    uint32_t(*pages)[CODE_MAP_PAGE] = realloc(map->pages, bytes);
    if (!pages) return error_set_no_memory(err, bytes, "a table of characters");
    map->pages = pages;
    memset(pages[map->page_count], 0xff, sizeof *pages); /* every place holds CODE_MAP_NONE */
    map->page_count++;
    return true;
}

bool code_map_init(struct code_map *map, struct error *err)
{
    memset(map, 0, sizeof *map);
    return add_page(map, err);
}

void code_map_free(struct code_map *map)
{
    free(map->pages);
    memset(map, 0, sizeof *map);
}

bool code_map_set(struct code_map *map, uint32_t code_point, uint32_t value, struct error *err)
{
    uint16_t *page = &map->directory[code_point / CODE_MAP_PAGE];
    if (*page == 0) {
        if (!add_page(map, err)) return false;
        *page = (uint16_t)(map->page_count - 1);
    }
    map->pages[*page][code_point % CODE_MAP_PAGE] = value;
    return true;
}
