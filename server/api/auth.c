#include "server/api/auth.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "server/api/throttle.h"

#define MIN_TOKEN      16 /* characters; fewer can be guessed */
#define MAX_TOKEN      512
#define MAX_FILE_BYTES ((size_t)1 << 20)
#define HASH_MARK      "sha256:"
#define HASH_DIGITS    ((size_t)2 * SHA256_SIZE)

struct token {
    unsigned char digest[SHA256_SIZE];
    enum http_scope scope;
};

struct auth_tokens {
    struct token *items;
    size_t count, capacity;
    bool generate, admin; /* the scope has a token */
    bool plain;           /* a token itself, not its digest, was read from the present file or value */
};

struct auth {
    pthread_mutex_t lock; /* guards tokens */
    struct auth_tokens tokens;
    struct throttle *throttle;
};

/* --- Reading tokens --- */

/* The length of the token at the start of the text (RFC 6750, b64token). */
static size_t token_length(const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/";
    const size_t n = strspn(text, letters);
    return n > 0 ? n + strspn(text + n, "=") : 0;
}

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') return digit - '0';
    const char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool parse_digest(const char *text, size_t n, unsigned char digest[SHA256_SIZE])
{
    if (n != HASH_DIGITS) return false;
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        const int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        digest[i] = (unsigned char)(16 * high + low);
    }
    return true;
}

static bool add_token(struct auth_tokens *tokens, enum http_scope scope, const unsigned char digest[SHA256_SIZE],
                      struct error *err)
{
    if (tokens->count == tokens->capacity) {
        const size_t capacity = 2 * tokens->capacity + 4;
        struct token *items = realloc(tokens->items, capacity * sizeof *items);
        if (!items) return error_set_no_memory(err, capacity * sizeof *items, "tokens");
        tokens->items = items;
        tokens->capacity = capacity;
    }
    struct token *token = &tokens->items[tokens->count++];
    memcpy(token->digest, digest, SHA256_SIZE);
    token->scope = scope;
    *(scope == HTTP_ADMIN ? &tokens->admin : &tokens->generate) = true;
    return true;
}

/* One token, as it is or as its digest. The message must not show it. */
static bool read_token(struct auth_tokens *tokens, enum http_scope scope, const char *text, size_t n, struct error *err)
{
    const size_t mark = sizeof HASH_MARK - 1;
    unsigned char digest[SHA256_SIZE];
    if (n >= mark && memcmp(text, HASH_MARK, mark) == 0) {
        if (!parse_digest(text + mark, n - mark, digest))
            return error_set(err, ERROR_INVALID, "after \"sha256:\" come 64 hexadecimal digits");
    } else if (n < MIN_TOKEN || n > MAX_TOKEN || token_length(text) != n) {
        return error_set(err, ERROR_INVALID,
                         "a token has %d to %d letters, digits or - . _ ~ + / (make one with: openssl rand -hex 32)",
                         MIN_TOKEN, MAX_TOKEN);
    } else {
        sha256_bytes(text, n, digest);
        tokens->plain = true;
    }
    return add_token(tokens, scope, digest, err);
}

/* Warns rather than refuses: files that a container mounts from another system all have mode 0777. Anybody may read a
 * digest. */
static void warn_of_others(const struct auth_tokens *tokens, const char *key, const char *path)
{
    struct stat info;
    const mode_t harm = S_IWOTH | (tokens->plain ? S_IROTH : 0);
    if (stat(path, &info) == 0 && info.st_mode & harm)
        log_event(LOG_WARNING, "others can read or write this file of tokens", LOG_TEXT("key", key),
                  LOG_TEXT("file", path), LOG_TEXT("do", "chmod o-rwx"));
}

/* The configuration file, if the key's value comes from it; else NULL. */
static const char *file_of(const struct config *config, const char *key)
{
    if (!config->origins || !config->file) return NULL;
    const struct option_origin *origin = &config->origins[options_find(&config_table, key) - config_table.options];
    return origin->place && strstr(origin->place, config->file) ? config->file : NULL;
}

/* Reads a value of the configuration: tokens with commas or spaces between them. An environment variable has no other
 * form for a list. */
static bool read_list(struct auth_tokens *tokens, enum http_scope scope, const char *key,
                      const struct option_list *list, const char *file, struct error *err)
{
    tokens->plain = false;
    for (size_t i = 0; i < list->count; i++) {
        const char *at = list->items[i];
        for (at += strspn(at, ", "); *at; at += strspn(at, ", ")) {
            const size_t n = strcspn(at, ", ");
            if (!read_token(tokens, scope, at, n, err)) return error_add_context(err, "%s", key);
            at += n;
        }
    }
    if (file) warn_of_others(tokens, key, file);
    return true;
}

/* A token per line; empty lines and those that begin with # are skipped. */
static bool read_lines(struct auth_tokens *tokens, enum http_scope scope, const char *path, const char *text,
                       struct error *err)
{
    const size_t before = tokens->count;
    for (size_t line = 1; *text; line++) {
        const size_t whole = strcspn(text, "\n");
        const char *start = text + strspn(text, " \t");
        size_t n = start < text + whole ? (size_t)(text + whole - start) : 0;
        while (n > 0 && strchr(" \t\r", start[n - 1])) n--;
        if (n > 0 && *start != '#' && !read_token(tokens, scope, start, n, err))
            return error_add_context(err, "%s:%zu", path, line);
        text += whole + (text[whole] == '\n');
    }
    return tokens->count > before || error_set(err, ERROR_INVALID, "%s: has no token", path);
}

static bool read_file(struct auth_tokens *tokens, enum http_scope scope, const char *key, const char *path,
                      struct error *err)
{
    char *text;
    size_t size;
    if (!path) return true;
    tokens->plain = false;
    if (!file_read(path, MAX_FILE_BYTES, &text, &size, err)) return error_add_context(err, "%s", key);
    const bool done =
        strlen(text) == size
            ? read_lines(tokens, scope, path, text + utf8_mark(text, size), err)
            : error_set(err, ERROR_INVALID, "%s: holds a NUL character, as UTF-16 does: save it as UTF-8", path);
    explicit_bzero(text, size);
    free(text);
    warn_of_others(tokens, key, path);
    return done || error_add_context(err, "%s", key);
}

static bool read_tokens(struct auth_tokens *tokens, const struct config *config, struct error *err)
{
    return read_list(tokens, HTTP_GENERATE, "auth.generate_tokens", &config->generate_tokens,
                     file_of(config, "auth.generate_tokens"), err) &&
           read_list(tokens, HTTP_ADMIN, "auth.admin_tokens", &config->admin_tokens,
                     file_of(config, "auth.admin_tokens"), err) &&
           read_file(tokens, HTTP_GENERATE, "auth.generate_token_file", config->generate_token_file, err) &&
           read_file(tokens, HTTP_ADMIN, "auth.admin_token_file", config->admin_token_file, err);
}

/* --- Life --- */

struct auth *auth_new(const struct config *config, struct error *err)
{
    struct auth *auth = calloc(1, sizeof *auth);
    if (!auth) {
        error_set_no_memory(err, sizeof *auth, "tokens");
        return NULL;
    }
    pthread_mutex_init(&auth->lock, NULL);
    auth->throttle = throttle_new(err);
    if (auth->throttle && auth_reload(auth, config, err)) return auth;
    auth_free(auth);
    return NULL;
}

void auth_free(struct auth *auth)
{
    if (!auth) return;
    pthread_mutex_destroy(&auth->lock);
    throttle_free(auth->throttle);
    free(auth->tokens.items);
    free(auth);
}

bool auth_check_settings(const struct config *config, struct error *err)
{
    struct auth_tokens tokens = {0};
    const bool good = read_tokens(&tokens, config, err);
    free(tokens.items);
    return good;
}

bool auth_reload(struct auth *auth, const struct config *config, struct error *err)
{
    struct auth_tokens tokens = {0};
    if (!read_tokens(&tokens, config, err)) {
        free(tokens.items);
        return false;
    }
    pthread_mutex_lock(&auth->lock);
    struct token *old = auth->tokens.items;
    auth->tokens = tokens;
    pthread_mutex_unlock(&auth->lock);
    free(old);
    return true;
}

/* --- Checking --- */

/* Returns the scope of the token, HTTP_PUBLIC for an unknown one. Takes the same time for any token. The caller holds
 * the lock. */
static enum http_scope scope_of(const struct auth_tokens *tokens, const unsigned char digest[SHA256_SIZE])
{
    bool generate = false, admin = false;
    for (size_t i = 0; i < tokens->count; i++) {
        const bool equal = sha256_equal(tokens->items[i].digest, digest);
        generate |= equal & (tokens->items[i].scope == HTTP_GENERATE);
        admin |= equal & (tokens->items[i].scope == HTTP_ADMIN);
    }
    return admin ? HTTP_ADMIN : generate ? HTTP_GENERATE : HTTP_PUBLIC;
}

/* "Bearer <token>"; false where the header is of another form. */
static bool find_token(const char *header, const char **token, size_t *n)
{
    static const char scheme[] = "Bearer";
    if (!header || strncasecmp(header, scheme, sizeof scheme - 1) != 0) return false;
    header += sizeof scheme - 1;
    const size_t spaces = strspn(header, " ");
    *token = header + spaces;
    *n = token_length(*token);
    return spaces > 0 && *n > 0 && (*token)[*n + strspn(*token + *n, " \t")] == '\0';
}

enum auth_verdict auth_check(struct auth *auth, enum http_scope scope, const char *header, const char *address,
                             uint64_t now_ns, unsigned *seconds)
{
    const char *token = "";
    size_t n = 0;
    unsigned char digest[SHA256_SIZE];
    const bool given = find_token(header, &token, &n);
    if (given) sha256_bytes(token, n, digest);
    pthread_mutex_lock(&auth->lock);
    const bool open = scope <= HTTP_PUBLIC || (scope == HTTP_GENERATE && !auth->tokens.generate);
    const bool closed = scope == HTTP_ADMIN && !auth->tokens.admin;
    const enum http_scope granted = given && !open && !closed ? scope_of(&auth->tokens, digest) : HTTP_PUBLIC;
    pthread_mutex_unlock(&auth->lock);
    if (open) return AUTH_GRANTED;
    if (closed) return AUTH_CLOSED;
    if (!given) return AUTH_MISSING;
    *seconds = throttle_wait(auth->throttle, address, now_ns);
    if (*seconds > 0) return AUTH_SLOWED;
    if (granted == HTTP_PUBLIC) {
        throttle_failed(auth->throttle, address, now_ns);
        return AUTH_UNKNOWN;
    }
    throttle_succeeded(auth->throttle, address, now_ns);
    return granted >= scope ? AUTH_GRANTED : AUTH_SCOPE;
}
