// SPDX-License-Identifier: MIT
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int address_from(struct record_address *out, const struct sockaddr *any, socklen_t len, int type, bool v6only) {
    struct record_address key = {.type = type, .len = len};
    if (len < sizeof(sa_family_t) || len > sizeof key.at.storage) return -EINVAL;
    memcpy(&key.at.storage, any, len);
    switch (key.at.any.sa_family) {
        case AF_INET:
            if (len < sizeof key.at.in) return -EINVAL;
            memset(key.at.in.sin_zero, 0, sizeof key.at.in.sin_zero);
            key.len = sizeof key.at.in;
            break;
        case AF_INET6:
            if (len < sizeof key.at.in6) return -EINVAL;
            key.at.in6.sin6_flowinfo = 0;
            key.len = sizeof key.at.in6;
            key.v6only = v6only && IN6_IS_ADDR_UNSPECIFIED(&key.at.in6.sin6_addr);  // the kernel sets it for all others
            break;
        case AF_UNIX:
            if (len <= offsetof(struct sockaddr_un, sun_path)) return -EINVAL;
            if (key.at.un.sun_path[0] != '\0') key.len = sizeof key.at.un;  // bind(2) takes a path with or without its end
            break;
        default: return -EINVAL;
    }
    *out = key;
    return 0;
}

int address_of_socket(struct record_address *out, int fd) {
    struct sockaddr_storage at;
    socklen_t len = sizeof at, int_len = sizeof(int);
    int type, v6only = 0;
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0) return -errno;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_len) != 0) return -errno;
    int_len = sizeof v6only;
    if (at.ss_family == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &int_len) != 0) return -errno;
    return address_from(out, (struct sockaddr *)&at, len, type, v6only != 0);
}

bool address_equal(const struct record_address *a, const struct record_address *b) {
    return a->type == b->type && a->v6only == b->v6only && a->len == b->len && memcmp(&a->at, &b->at, a->len) == 0;
}

int address_port(const struct record_address *address) {
    switch (address->at.any.sa_family) {
        case AF_INET: return ntohs(address->at.in.sin_port);
        case AF_INET6: return ntohs(address->at.in6.sin6_port);
        default: return -1;
    }
}

void address_set_port(struct record_address *address, int port) {
    if (address->at.any.sa_family == AF_INET) address->at.in.sin_port = htons((uint16_t)port);
    if (address->at.any.sa_family == AF_INET6) address->at.in6.sin6_port = htons((uint16_t)port);
}

bool address_is_multicast(const struct record_address *address) {
    switch (address->at.any.sa_family) {
        case AF_INET: return IN_MULTICAST(ntohl(address->at.in.sin_addr.s_addr));
        case AF_INET6: return IN6_IS_ADDR_MULTICAST(&address->at.in6.sin6_addr);
        default: return false;
    }
}

static void unix_text(const struct record_address *address, char *out, size_t size) {
    size_t len = address->len - offsetof(struct sockaddr_un, sun_path);
    const char *path = address->at.un.sun_path;
    if (path[0] == '\0')
        snprintf(out, size, "@%.*s", (int)len - 1, path + 1);
    else
        snprintf(out, size, "%.*s", (int)strnlen(path, len), path);
}

const char *address_text(const struct record_address *address, char *out, size_t size) {
    char host[INET6_ADDRSTRLEN] = "?";
    const char *kind = address->type == SOCK_DGRAM ? "udp " : "";
    switch (address->at.any.sa_family) {
        case AF_INET:
            inet_ntop(AF_INET, &address->at.in.sin_addr, host, sizeof host);
            snprintf(out, size, "%s%s:%d", kind, host, address_port(address));
            break;
        case AF_INET6:
            inet_ntop(AF_INET6, &address->at.in6.sin6_addr, host, sizeof host);
            snprintf(out, size, "%s[%s]:%d", kind, host, address_port(address));
            break;
        default: unix_text(address, out, size);
    }
    return out;
}
