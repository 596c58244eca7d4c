/* Reads any text as the value of a header. The first byte chooses which: Accept, Accept-Encoding and If-None-Match, the
 * client behind a proxy, an address, a network, a name of server.hosts. The result is a refusal with a message, or a
 * value within its bounds. */
#include <string.h>

#include "server/http/address.h"
#include "server/http/http.h"
#include "server/http/negotiate.h"
#include "tests/fuzz/fuzz.h"

static void choose(const char *text)
{
    static const char *const types[] = {"application/json", "text/csv", "text/html"};
    const size_t count = sizeof types / sizeof *types;
    REQUIRE(accept_choose(text, types, count) < count);
    REQUIRE(accept_choose(text, types, 1) == 0);
    REQUIRE(!accept_gzip(text) || strcasestr(text, "gzip") || strchr(text, '*'));
    REQUIRE(!etag_is_listed(text, "\"a\"") || strstr(text, "\"a\"") || strchr(text, '*'));
}

/* Prints the result and reads it again. */
static void read_address(const char *text)
{
    struct address address, again;
    char printed[ADDRESS_TEXT_SIZE];
    if (!address_parse(text, strlen(text), &address)) return;
    address_print(&address, printed);
    REQUIRE(address_parse(printed, strlen(printed), &again) && address_equal(&address, &again));
    const struct address network = address_network(&address), twice = address_network(&network);
    REQUIRE(address_equal(&network, &twice));
}

static void look_behind(const char *text, bool forwarded)
{
    static const char *const proxies[] = {"10.0.0.0/8", "::1", "unix"};
    struct address_set trusted;
    struct error err = {0};
    struct address proxy;
    REQUIRE(address_set_parse(&trusted, "trusted", proxies, sizeof proxies / sizeof *proxies, &err));
    REQUIRE(address_parse("10.1.2.3", strlen("10.1.2.3"), &proxy));
    const struct address client = address_behind(&trusted, &proxy, text, forwarded);
    REQUIRE(client.kind != ADDRESS_NONE);
    address_set_close(&trusted);
}

static void read_network(const char *text)
{
    struct address_set set;
    struct error err = {0};
    if (address_set_parse(&set, "setting", &text, 1, &err))
        REQUIRE(set.count == 1 && set.items[0].bits <= 128);
    else
        REQUIRE(err.message[0] != '\0');
    address_set_close(&set);
}

static void read_hosts(const char *text)
{
    const struct http_options options = {.hosts = &text, .host_count = 1};
    struct error err = {0};
    REQUIRE(http_hosts_check(&options, &err) == (err.code == ERROR_NONE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    char *text = malloc(size);
    REQUIRE(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 6) {
    case 0:
        choose(text);
        break;
    case 1:
        look_behind(text, false);
        break;
    case 2:
        look_behind(text, true);
        break;
    case 3:
        read_address(text);
        break;
    case 4:
        read_network(text);
        break;
    default:
        read_hosts(text);
    }
    free(text);
    return 0;
}
