#include "server/web/embedded.h"

#include <string.h>

/* The assembler copies a file into the read-only data, with its size behind it; the file's path is relative to the top
 * of the repository, where the compiler runs. The Makefile has the files as prerequisites of this object. */
#define EMBED(name, file)                                                                                              \
    extern const char embedded_##name[];                                                                               \
    extern const uint64_t embedded_##name##_size;                                                                      \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".global embedded_" #name "\n"                                                                             \
            ".global embedded_" #name "_size\n"                                                                        \
            "embedded_" #name ":\n"                                                                                    \
            ".incbin \"" file "\"\n"                                                                                   \
            "embedded_" #name "_end:\n"                                                                                \
            ".balign 8\n"                                                                                              \
            "embedded_" #name "_size:\n"                                                                               \
            ".quad embedded_" #name "_end - embedded_" #name "\n"                                                      \
            ".popsection\n")

EMBED(index, "server/web/index.html");
EMBED(script, "server/web/app.js");
EMBED(write, "server/web/write.js");
EMBED(inside, "server/web/inside.js");
EMBED(inside_words, "server/web/inside_words.js");
EMBED(inside_scale, "server/web/inside_scale.js");
EMBED(inside_data, "server/web/inside_data.js");
EMBED(inside_boxes, "server/web/inside_boxes.js");
EMBED(inside_expect, "server/web/inside_expect.js");
EMBED(inside_map, "server/web/inside_map.js");
EMBED(inside_unit, "server/web/inside_unit.js");
EMBED(inside_all, "server/web/inside_all.js");
EMBED(inside_style, "server/web/inside.css");
EMBED(models, "server/web/models.js");
EMBED(train, "server/web/train.js");
EMBED(status, "server/web/status.js");
EMBED(daemon, "server/web/daemon.js");
EMBED(dom, "server/web/dom.js");
EMBED(plot, "server/web/plot.js");
EMBED(style, "server/web/style.css");
EMBED(icon, "server/web/icon.svg");
EMBED(openapi, "openapi.yaml");
EMBED(client, "server/web/client.js");
EMBED(client_types, "server/web/client.d.ts");

static const struct embedded_file files[] = {
    {"/", "text/html; charset=utf-8", embedded_index, &embedded_index_size},
    {"/web/app.js", "text/javascript; charset=utf-8", embedded_script, &embedded_script_size},
    {"/web/write.js", "text/javascript; charset=utf-8", embedded_write, &embedded_write_size},
    {"/web/inside.js", "text/javascript; charset=utf-8", embedded_inside, &embedded_inside_size},
    {"/web/inside_words.js", "text/javascript; charset=utf-8", embedded_inside_words, &embedded_inside_words_size},
    {"/web/inside_scale.js", "text/javascript; charset=utf-8", embedded_inside_scale, &embedded_inside_scale_size},
    {"/web/inside_data.js", "text/javascript; charset=utf-8", embedded_inside_data, &embedded_inside_data_size},
    {"/web/inside_boxes.js", "text/javascript; charset=utf-8", embedded_inside_boxes, &embedded_inside_boxes_size},
    {"/web/inside_expect.js", "text/javascript; charset=utf-8", embedded_inside_expect, &embedded_inside_expect_size},
    {"/web/inside_map.js", "text/javascript; charset=utf-8", embedded_inside_map, &embedded_inside_map_size},
    {"/web/inside_unit.js", "text/javascript; charset=utf-8", embedded_inside_unit, &embedded_inside_unit_size},
    {"/web/inside_all.js", "text/javascript; charset=utf-8", embedded_inside_all, &embedded_inside_all_size},
    {"/web/inside.css", "text/css; charset=utf-8", embedded_inside_style, &embedded_inside_style_size},
    {"/web/models.js", "text/javascript; charset=utf-8", embedded_models, &embedded_models_size},
    {"/web/train.js", "text/javascript; charset=utf-8", embedded_train, &embedded_train_size},
    {"/web/status.js", "text/javascript; charset=utf-8", embedded_status, &embedded_status_size},
    {"/web/daemon.js", "text/javascript; charset=utf-8", embedded_daemon, &embedded_daemon_size},
    {"/web/dom.js", "text/javascript; charset=utf-8", embedded_dom, &embedded_dom_size},
    {"/web/plot.js", "text/javascript; charset=utf-8", embedded_plot, &embedded_plot_size},
    {"/web/style.css", "text/css; charset=utf-8", embedded_style, &embedded_style_size},
    {"/web/icon.svg", "image/svg+xml", embedded_icon, &embedded_icon_size},
    {"/openapi.yaml", "application/yaml", embedded_openapi, &embedded_openapi_size},
    {"/client.js", "text/javascript; charset=utf-8", embedded_client, &embedded_client_size},
    {"/client.d.ts", "text/plain; charset=utf-8", embedded_client_types, &embedded_client_types_size},
};

const struct embedded_file *embedded_find(const char *path)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(files[i].path, path) == 0) return &files[i];
    return NULL;
}
