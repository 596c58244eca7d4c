/* What the generated list of embedded files needs (scripts/embed makes it, in the build directory), and the list
 * itself.
 */
#ifndef LSTMD_SERVER_WEB_INCBIN_H
#define LSTMD_SERVER_WEB_INCBIN_H

#include <stddef.h>

#include "server/web/embedded.h"

/* The assembler copies a file into the read-only data, with its size behind it. The file's path is relative to the top
 * of the repository, where the compiler runs. */
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

extern const struct embedded_file embedded_files[];
extern const size_t embedded_file_count;

#endif
