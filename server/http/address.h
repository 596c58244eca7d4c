/* Addresses of clients: sets of networks, and the client behind a proxy. Pure functions, thread-safe. */
#ifndef LSTMD_SERVER_HTTP_ADDRESS_H
#define LSTMD_SERVER_HTTP_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct address {
    enum {
        ADDRESS_NONE,  /* not known */
        ADDRESS_IP,    /* IPv4 or IPv6 */
        ADDRESS_LOCAL, /* a UNIX socket */
    } kind;
    unsigned char bytes[16]; /* IPv6; IPv4 as ::ffff:a.b.c.d */
};

#define ADDRESS_TEXT_SIZE INET6_ADDRSTRLEN

struct address address_of_socket(const struct sockaddr *address);
/* Reads "192.0.2.1", "2001:db8::1" or "unix". False: the text is no address. */
bool address_parse(const char *text, size_t size, struct address *address);
void address_print(const struct address *address, char text[ADDRESS_TEXT_SIZE]); /* "" for none */
bool address_equal(const struct address *a, const struct address *b);
/* What one client has to itself: an IPv4 address, the first 64 bits of an IPv6 address. */
struct address address_network(const struct address *address);

/* A network: "10.0.0.0/8", "::1", "unix". */
struct network_address {
    struct address address;
    unsigned bits; /* of the 128 that must be equal */
};

struct address_set {
    struct network_address *items;
    size_t count;
};

/* Reads `count` texts; errors name the setting. Close with address_set_close(), also after a failure. */
bool address_set_parse(struct address_set *set, const char *setting, const char *const *texts, size_t count,
                       struct error *err);
bool address_set_has(const struct address_set *set, const struct address *address);
void address_set_close(struct address_set *set);

/* The client that a trusted proxy tells of. The header's value is a list, read from its end: the client is the first
 * address that is not trusted itself. Where all are trusted, it is the first of the list; where the list's end cannot
 * be read, the proxy. forwarded: the value is that of Forwarded (Source: RFC 7239), else that of X-Forwarded-For. */
struct address address_behind(const struct address_set *trusted, const struct address *proxy, const char *value,
                              bool forwarded);

#endif
