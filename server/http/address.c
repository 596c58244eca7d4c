#include "server/http/address.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct address address_of_socket(const struct sockaddr *socket_address)
{
    struct address address = {.kind = ADDRESS_NONE};
    if (socket_address->sa_family == AF_UNIX) {
        address.kind = ADDRESS_LOCAL;
    } else if (socket_address->sa_family == AF_INET) {
        address.kind = ADDRESS_IP;
        memcpy(address.bytes, mapped, sizeof mapped);
        memcpy(address.bytes + 12, &((const struct sockaddr_in *)socket_address)->sin_addr, 4);
    } else if (socket_address->sa_family == AF_INET6) {
        address.kind = ADDRESS_IP;
        memcpy(address.bytes, &((const struct sockaddr_in6 *)socket_address)->sin6_addr, 16);
    }
    return address;
}

bool address_parse(const char *text, size_t size, struct address *address)
{
    char copy[ADDRESS_TEXT_SIZE];
    *address = (struct address){.kind = ADDRESS_NONE};
    if (size == 0 || size >= sizeof copy || memchr(text, '\0', size)) return false;
    memcpy(copy, text, size);
    copy[size] = '\0';
    if (strcmp(copy, "unix") == 0) {
        address->kind = ADDRESS_LOCAL;
    } else if (inet_pton(AF_INET, copy, address->bytes + 12) == 1) {
        address->kind = ADDRESS_IP;
        memcpy(address->bytes, mapped, sizeof mapped);
    } else if (inet_pton(AF_INET6, copy, address->bytes) == 1) {
        address->kind = ADDRESS_IP;
    }
    return address->kind != ADDRESS_NONE;
}

void address_print(const struct address *address, char text[ADDRESS_TEXT_SIZE])
{
    text[0] = '\0';
    if (address->kind == ADDRESS_LOCAL)
        strcpy(text, "unix");
    else if (address->kind == ADDRESS_IP && memcmp(address->bytes, mapped, sizeof mapped) == 0)
        inet_ntop(AF_INET, address->bytes + 12, text, ADDRESS_TEXT_SIZE);
    else if (address->kind == ADDRESS_IP)
        inet_ntop(AF_INET6, address->bytes, text, ADDRESS_TEXT_SIZE);
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->kind == b->kind && memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

struct address address_network(const struct address *address)
{
    struct address network = *address;
    if (address->kind == ADDRESS_IP && memcmp(address->bytes, mapped, sizeof mapped) != 0)
        memset(network.bytes + 8, 0, sizeof network.bytes - 8);
    return network;
}

/* --- Sets --- */

static bool parse_network(struct network_address *network, const char *text)
{
    const char *slash = strchr(text, '/');
    if (!address_parse(text, slash ? (size_t)(slash - text) : strlen(text), &network->address)) return false;
    network->bits = 128;
    if (!slash) return true;
    const bool four = memcmp(network->address.bytes, mapped, sizeof mapped) == 0;
    char *end;
    const unsigned long bits = strtoul(slash + 1, &end, 10);
    if (network->address.kind != ADDRESS_IP || slash[1] < '0' || slash[1] > '9' || *end || bits > (four ? 32 : 128))
        return false;
    network->bits = (unsigned)bits + (four ? 96 : 0);
    return true;
}

bool address_set_parse(struct address_set *set, const char *setting, const char *const *texts, size_t count,
                       struct error *err)
{
    *set = (struct address_set){0};
    if (count == 0) return true;
    set->items = calloc(count, sizeof *set->items);
    if (!set->items) return error_set_no_memory(err, count * sizeof *set->items, setting);
    for (; set->count < count; set->count++)
        if (!parse_network(&set->items[set->count], texts[set->count]))
            return error_set(err, ERROR_INVALID, "%s: \"%s\" is no address, no network (10.0.0.0/8) and not \"unix\"",
                             setting, texts[set->count]);
    return true;
}

static bool network_has(const struct network_address *network, const struct address *address)
{
    if (network->address.kind != address->kind) return false;
    const size_t whole = network->bits / 8, rest = network->bits % 8;
    const unsigned char *a = network->address.bytes, *b = address->bytes;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

bool address_set_has(const struct address_set *set, const struct address *address)
{
    for (size_t i = 0; i < set->count; i++)
        if (network_has(&set->items[i], address)) return true;
    return false;
}

void address_set_close(struct address_set *set)
{
    free(set->items);
    *set = (struct address_set){0};
}

/* --- Behind a proxy --- */

struct address_span {
    const char *text;
    size_t size;
};

static struct address_span trim_span(struct address_span span)
{
    while (span.size > 0 && (*span.text == ' ' || *span.text == '\t')) span.text++, span.size--;
    while (span.size > 0 && (span.text[span.size - 1] == ' ' || span.text[span.size - 1] == '\t')) span.size--;
    return span;
}

/* `for=192.0.2.1;proto=http` -> `192.0.2.1`; `proto=http;For="[2001:db8::1]:80"` -> `[2001:db8::1]:80` */
static struct address_span value_of_for(struct address_span element)
{
    while (element.size > 0) {
        const char *semicolon = memchr(element.text, ';', element.size);
        const size_t size = semicolon ? (size_t)(semicolon - element.text) : element.size;
        const struct address_span pair = trim_span((struct address_span){element.text, size});
        if (pair.size > 4 && strncasecmp(pair.text, "for=", 4) == 0) {
            const bool quoted = pair.size > 6 && pair.text[4] == '"' && pair.text[pair.size - 1] == '"';
            return (struct address_span){pair.text + (quoted ? 5 : 4), pair.size - (quoted ? 6 : 4)};
        }
        element.text += size + (semicolon ? 1 : 0);
        element.size -= size + (semicolon ? 1 : 0);
    }
    return element;
}

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:80" */
static bool parse_node(struct address_span node, struct address *address)
{
    const char *bracket = node.size > 0 && *node.text == '[' ? memchr(node.text, ']', node.size) : NULL;
    if (bracket) node = (struct address_span){node.text + 1, (size_t)(bracket - node.text) - 1};
    const char *colon = memchr(node.text, ':', node.size);
    const bool one = colon && !bracket && !memchr(colon + 1, ':', node.size - (size_t)(colon + 1 - node.text));
    return address_parse(node.text, one ? (size_t)(colon - node.text) : node.size, address) &&
           address->kind == ADDRESS_IP;
}

struct address address_behind(const struct address_set *trusted, const struct address *proxy, const char *value,
                              bool forwarded)
{
    struct address client = *proxy;
    size_t end = strlen(value);
    for (bool more = end > 0; more;) {
        size_t begin = end;
        while (begin > 0 && value[begin - 1] != ',') begin--;
        struct address_span element = trim_span((struct address_span){value + begin, end - begin});
        struct address address;
        if (!parse_node(forwarded ? value_of_for(element) : element, &address)) break;
        client = address;
        more = begin > 0 && address_set_has(trusted, &address);
        end = begin > 0 ? begin - 1 : 0;
    }
    return client;
}
