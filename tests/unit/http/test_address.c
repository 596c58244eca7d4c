#include <arpa/inet.h>
#include <string.h>

#include "server/http/address.h"
#include "tests/unit/support.h"

static void assert_behind(const char *value, bool forwarded, const char *wanted)
{
    static const char *const proxies[] = {"10.0.0.0/8", "2001:db8::/33", "::1", "192.0.2.7"};
    struct address_set trusted;
    struct error err = {0};
    struct address proxy;
    char text[ADDRESS_TEXT_SIZE];
    assert_true(address_set_parse(&trusted, "x", proxies, 4, &err));
    assert_true(address_parse("10.1.2.3", 8, &proxy));
    const struct address client = address_behind(&trusted, &proxy, value, forwarded);
    address_print(&client, text);
    assert_string_equal(text, wanted);
    address_set_close(&trusted);
}

static void test_address_x_forwarded_for(void **state)
{
    (void)state;
    assert_behind("203.0.113.5", false, "203.0.113.5");
    assert_behind("6.6.6.6, 203.0.113.5", false, "203.0.113.5"); /* what the client said is not believed */
    assert_behind("6.6.6.6, 203.0.113.5 ,10.9.9.9", false, "203.0.113.5");
    assert_behind("6.6.6.6,203.0.113.5,2001:db8:1::2", false, "203.0.113.5");
    assert_behind("203.0.113.5:8080", false, "203.0.113.5");
    assert_behind("[2001:db9::1]:8080", false, "2001:db9::1");
    assert_behind("2001:db9::1", false, "2001:db9::1");
    assert_behind("2001:db8:8000::1", false, "2001:db8:8000::1"); /* one bit outside of /33 */
    assert_behind("10.0.0.1, 10.0.0.2", false, "10.0.0.1");       /* all trusted: the first */
    assert_behind("", false, "10.1.2.3");
    assert_behind("unknown", false, "10.1.2.3");
    assert_behind("203.0.113.5, unknown", false, "10.1.2.3");
    assert_behind("203.0.113.5,", false, "10.1.2.3");
    assert_behind("unknown, 10.0.0.2", false, "10.0.0.2");
    assert_behind("[unix]", false, "10.1.2.3");
    assert_behind("unix", false, "10.1.2.3");
}

static void test_address_forwarded(void **state)
{
    (void)state;
    assert_behind("for=203.0.113.5", true, "203.0.113.5");
    assert_behind("for=6.6.6.6, proto=http;For=\"203.0.113.5:80\" ; by=10.0.0.1", true, "203.0.113.5");
    assert_behind("for=203.0.113.5;proto=https, for=10.0.0.2", true, "203.0.113.5");
    assert_behind("for=\"[2001:db9::17]:4711\"", true, "2001:db9::17");
    assert_behind("for=_hidden", true, "10.1.2.3");
    assert_behind("proto=https", true, "10.1.2.3");
    assert_behind("for=\"", true, "10.1.2.3");
    assert_behind("for=", true, "10.1.2.3");
}

static void test_address_set_is_strict(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",       "x",      "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1",
                                        "::/129", "unix/3", "10.0.0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct address_set set;
        struct error err = {0};
        assert_false(address_set_parse(&set, "server.trusted_proxies", &wrong[i], 1, &err));
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.message, "server.trusted_proxies"));
        address_set_close(&set);
    }
}

static void test_address_set_has(void **state)
{
    (void)state;
    static const char *const texts[] = {"10.0.0.0/9", "unix", "0.0.0.0/0"};
    struct address_set set;
    struct error err = {0};
    struct address address;
    assert_true(address_set_parse(&set, "x", texts, 2, &err));
    assert_true(address_parse("10.127.255.255", 14, &address) && address_set_has(&set, &address));
    assert_true(address_parse("10.128.0.0", 10, &address) && !address_set_has(&set, &address));
    assert_true(address_parse("::ffff:10.1.1.1", 15, &address) && address_set_has(&set, &address)); /* the same */
    const struct sockaddr local = {.sa_family = AF_UNIX};
    address = address_of_socket(&local);
    assert_true(address_set_has(&set, &address));
    address_set_close(&set);
    assert_true(address_set_parse(&set, "x", texts + 2, 1, &err)); /* every IPv4 address, and nothing else */
    assert_true(address_parse("1.2.3.4", 7, &address) && address_set_has(&set, &address));
    assert_true(address_parse("::1", 3, &address) && !address_set_has(&set, &address));
    address_set_close(&set);
}

static bool parse_one(void *context, struct error *err)
{
    static const char *const text = "10.0.0.0/8";
    struct address_set set;
    (void)context;
    const bool good = address_set_parse(&set, "x", &text, 1, err);
    address_set_close(&set);
    return good;
}

static void test_address_set_without_memory(void **state)
{
    (void)state;
    assert_survives_failing_allocations(parse_one, NULL);
}

static void test_address_network_is_what_one_client_has(void **state)
{
    static const char *const cases[][2] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:db8:0:1:2:3:4:5", "2001:db8:0:1::"},
        {"unix", "unix"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct address address;
        char text[ADDRESS_TEXT_SIZE];
        assert_true(address_parse(cases[i][0], strlen(cases[i][0]), &address));
        address = address_network(&address);
        address_print(&address, text);
        assert_string_equal(text, cases[i][1]);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_x_forwarded_for),
        cmocka_unit_test(test_address_forwarded),
        cmocka_unit_test(test_address_set_is_strict),
        cmocka_unit_test(test_address_set_has),
        cmocka_unit_test(test_address_set_without_memory),
        cmocka_unit_test(test_address_network_is_what_one_client_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
