// SPDX-License-Identifier: MIT
#include "target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "str.h"

enum { HOST_SIZE = 64 };

// "127.0.0.1:80", "[::1]:80". False: no TCP address.
static bool split(const char *address, char *host, uint16_t *out_port) {
    const char *colon = strrchr(address, ':');
    bool bracketed = address[0] == '[';
    long port;
    if (!colon || str_parse_number(colon + 1, 1, 65535, &port)) return false;
    size_t len = (size_t)(colon - address) - (bracketed ? 2 : 0);
    if (len == 0 || len >= HOST_SIZE) return false;
    memcpy(host, address + bracketed, len);
    host[len] = '\0';
    *out_port = (uint16_t)port;
    return true;
}

static bool fill(struct load_options *out, const char *host, uint16_t port) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is_v4 = inet_pton(AF_INET, host, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, host, &v6.sin6_addr) != 1) return false;
    out->target_len = is_v4 ? sizeof v4 : sizeof v6;
    memcpy(&out->target, is_v4 ? (void *)&v4 : (void *)&v6, out->target_len);
    return true;
}

// Where to find what listens on any address: over IPv4 where it listens there as well.
static const char *const *hosts_of(const char *host, const char *own[2]) {
    static const char *const any4[] = {"127.0.0.1", NULL}, *const any6[] = {"127.0.0.1", "::1", NULL};
    own[0] = host;
    own[1] = NULL;
    return strcmp(host, "0.0.0.0") == 0 ? any4 : strcmp(host, "::") == 0 ? any6 : own;
}

static bool try_address(const char *address, uint16_t port, struct load_options *out, char *text, size_t size, struct pando_error *error) {
    char host[HOST_SIZE];
    const char *own[2];
    uint16_t its_port;
    if (!split(address, host, &its_port) || (port && its_port != port)) return false;
    for (const char *const *at = hosts_of(host, own); *at; at++) {
        struct pando_error reason;
        if (!fill(out, *at, its_port)) continue;
        snprintf(text, size, strchr(*at, ':') ? "[%s]:%u" : "%s:%u", *at, its_port);
        if (load_probe(out, &out->http, &reason)) return true;
        error_say(error, EPROTO, "%s: %s", text, reason.text);
    }
    return false;
}

int target_find(const struct status *status, uint16_t port, struct load_options *out, char *text, size_t size, struct pando_error *error) {
    error_say(error, EPROTO,
              status->addresses == 0
                  ? "it listens on no address that Pando shares between workers (none at all, or port 0, a new port for each)"
                  : "it listens on no TCP address%s that can be asked; its first address: %s",
              port ? " with that port" : "", status->addresses ? status->address[0] : "");
    for (int i = 0; i < status->addresses; i++)
        if (try_address(status->address[i], port, out, text, size, error)) return 0;
    return -EPROTO;
}
