#include "server/confine.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/user.h"

#define MAX_PATHS 256 /* a program has some twenty libraries */

/* The path of "unix:/path", or NULL. */
static const char *socket_path(const char *address)
{
    return address && strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

/* ---- the user ---- */

static bool give_socket(const char *address, const struct user *user, struct error *err)
{
    const char *path = socket_path(address);
    return !path || chown(path, user->uid, user->gid) == 0 || error_set_errno(err, errno, "%s: cannot give away", path);
}

/* A directory that exists keeps its owner. */
static bool give_state(const char *path, const struct user *user, struct error *err)
{
    if (!path || mkdir(path, 0700) != 0) return true; /* state_dir_open() reports an error later */
    return chown(path, user->uid, user->gid) == 0 || error_set_errno(err, errno, "%s: cannot give away", path);
}

bool confine_find_user(const struct config *config, struct user *user, struct error *err)
{
    bool good = user_find(user, config->user, err);
    if (good && geteuid() != user->uid && geteuid() != 0)
        good = error_set(err, ERROR_INVALID, "only root can become \"%s\"; start it as root or as that user",
                         config->user);
    return good || error_add_context(err, "server.user");
}

bool confine_user(const struct config *config, const char *const sockets[2], struct error *err)
{
    struct user user;
    if (!config->user) return true;
    if (!confine_find_user(config, &user, err)) return false;
    if (geteuid() == user.uid) return true;
    bool good = true;
    for (size_t i = 0; good && i < 2; i++) good = give_socket(sockets[i], &user, err);
    good = good && give_state(config->state_dir, &user, err) && user_become(&user, config->user, err);
    if (good) log_event(LOG_INFO, "became", LOG_TEXT("user", config->user), LOG_INTEGER("uid", user.uid));
    return good || error_add_context(err, "server.user");
}

/* ---- paths ---- */

struct path_list {
    struct sandbox_path items[MAX_PATHS];
    size_t count;
    struct arena arena; /* of texts that are made here */
    bool good;          /* no item was lost */
};

static void confine_add(struct path_list *list, const char *path, enum sandbox_access access)
{
    if (!path) return;
    list->good = list->good && list->count < MAX_PATHS;
    if (list->good) list->items[list->count++] = (struct sandbox_path){path, access};
}

/* The directory of a path; NULL for the root, which would allow everything. */
static const char *directory_of(struct path_list *list, const char *path)
{
    char *text = arena_copy_text(&list->arena, path, strlen(path), NULL);
    list->good = list->good && text;
    if (!text) return NULL;
    size_t n = strlen(text);
    while (n > 1 && text[n - 1] == '/') n--;
    while (n > 0 && text[n - 1] != '/') n--;
    while (n > 1 && text[n - 1] == '/') n--;
    text[n] = '\0';
    if (n == 0) return ".";
    return strcmp(text, "/") == 0 ? NULL : text;
}

/* Allows a file or directory, and its directory, because a rename there may replace it. If it is a link, also allows
 * the directory of its target. */
static void add_replaceable(struct path_list *list, const char *path)
{
    if (!path) return;
    confine_add(list, path, SANDBOX_READ);
    confine_add(list, directory_of(list, path), SANDBOX_READ);
    char *target = realpath(path, NULL);
    if (target) confine_add(list, directory_of(list, target), SANDBOX_READ);
    free(target);
}

static int add_library(struct dl_phdr_info *info, size_t size, void *context)
{
    struct path_list *list = context;
    (void)size;
    if (info->dlpi_name && *info->dlpi_name == '/') confine_add(list, info->dlpi_name, SANDBOX_RUN);
    return 0;
}

/* The daemon starts this program once more for each import. */
static void add_program(struct path_list *list)
{
    confine_add(list, "/proc/self/exe", SANDBOX_RUN);
    dl_iterate_phdr(add_library, list);
    confine_add(list, "/etc/ld.so.cache", SANDBOX_READ);
    confine_add(list, "/etc/ld.so.preload", SANDBOX_READ);
    confine_add(list, "/usr/lib/locale", SANDBOX_READ);
    confine_add(list, "/dev/null", SANDBOX_WRITE);
}

/* Files that the C library and lstmd read: random bytes, processors, limits, the memory of a process. */
static void add_system(struct path_list *list)
{
    confine_add(list, "/dev/urandom", SANDBOX_READ);
    confine_add(list, "/proc", SANDBOX_READ);
    confine_add(list, "/sys/devices/system", SANDBOX_READ);
    confine_add(list, "/sys/fs/cgroup", SANDBOX_READ);
}

static void list_paths(struct path_list *list, const struct config *config, const char *const sockets[2])
{
    confine_add(list, config->state_dir, SANDBOX_WRITE);
    add_replaceable(list, config->model_path);
    add_replaceable(list, config->file);
    add_replaceable(list, config->generate_token_file);
    add_replaceable(list, config->admin_token_file);
    for (size_t i = 0; i < 2; i++) {
        const char *path = socket_path(sockets[i]);
        if (path) confine_add(list, directory_of(list, path), SANDBOX_REMOVE);
    }
    add_program(list);
    add_system(list);
}

/* Whether the daemon goes on with what the kernel lacks. */
static bool accept_lack(const struct config *config, const struct error *lacking, struct error *err)
{
    return config->sandbox != SANDBOX_REQUIRE ||
           error_set(err, lacking->code, "server.sandbox is require, and %s", lacking->message);
}

bool confine_paths(const struct config *config, const char *const sockets[2], struct error *lacking, struct error *err)
{
    struct path_list list = {.good = true};
    if (config->sandbox == SANDBOX_OFF) return true;
    list_paths(&list, config, sockets);
    bool good = list.good || error_set_no_memory(err, sizeof list, "the list of paths that the daemon keeps");
    if (good && !sandbox_limit_paths(list.items, list.count, lacking)) good = accept_lack(config, lacking, err);
    arena_free(&list.arena);
    return good;
}

bool confine_calls(const struct config *config, struct error *lacking, struct error *err)
{
    return config->sandbox == SANDBOX_OFF || sandbox_limit_daemon(lacking) || accept_lack(config, lacking, err);
}
