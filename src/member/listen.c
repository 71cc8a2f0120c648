// SPDX-License-Identifier: MIT
// Names are looked up here: the primary must not wait for a name server.
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "error.h"
#include "fd.h"
#include "self.h"
#include "str.h"

union place {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

struct wanted {
    const char *text;  // borrowed: as the user wrote it
    union place at;
    socklen_t len;
    bool dual;  // "::" that takes IPv4 too
    int backlog;
};

static int parse_unix(struct wanted *wanted, const char *path, struct pando_error *error) {
    char directory[4096] = "";
    wanted->at.un = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (path[0] != '/' && getcwd(directory, sizeof directory) == NULL) return error_set(error, errno, "listen on %s", wanted->text);
    size_t room = sizeof wanted->at.un.sun_path;
    int len = snprintf(wanted->at.un.sun_path, room, "%s%s%s", directory, directory[0] != '\0' ? "/" : "", path);
    if (path[0] == '\0' || len >= (int)room)
        return error_say(error, ENAMETOOLONG, "listen on %s: give a path of 1 to %zu bytes", wanted->text, room - 1);
    wanted->len = sizeof wanted->at.un;
    return 0;
}

static int look_up(struct wanted *wanted, const char *host, const char *port, struct pando_error *error) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    int r = getaddrinfo(host, port, &hints, &found);
    if (r != 0) return error_say(error, EINVAL, "listen on %s: %s", wanted->text, gai_strerror(r));
    memcpy(&wanted->at, found->ai_addr, found->ai_addrlen);
    wanted->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static bool has_ipv6(void) {
    scoped_fd fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0;
}

static int parse_tcp(struct wanted *wanted, struct pando_error *error) {
    char host[256] = "";
    long number;
    const char *colon = strrchr(wanted->text, ':'), *port = colon != NULL ? colon + 1 : wanted->text;
    size_t len = colon != NULL ? (size_t)(colon - wanted->text) : 0;
    if (str_parse_number(port, 0, 65535, &number) != 0)
        return error_say(error, EINVAL, "listen on %s: give PORT, HOST:PORT, unix:PATH or fd:N, with a port from 0 to 65535", wanted->text);
    if (len >= sizeof host) return error_say(error, EINVAL, "listen on %.300s...: the host name is too long", wanted->text);
    memcpy(host, wanted->text, len);
    char *name = host;
    if (len > 0 && host[0] == '[' && host[len - 1] == ']') host[len - 1] = '\0', name++;
    wanted->dual = len == 0 && has_ipv6();
    return look_up(wanted, len > 0 ? name : wanted->dual ? "::" : "0.0.0.0", port, error);
}

// ---- without a primary

static int bind_alone(const struct wanted *wanted) {
    int one = 1, v6only = !wanted->dual;
    scoped_fd fd = socket(wanted->at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    if (wanted->at.any.sa_family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (wanted->at.any.sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    if (bind(fd, &wanted->at.any, wanted->len) != 0 || listen(fd, wanted->backlog > 0 ? wanted->backlog : INT32_MAX) != 0) return -errno;
    return fd_take(&fd);
}

// A socket file on which nobody answers is a leftover.
static bool clear_stale(const struct wanted *wanted) {
    scoped_fd probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool stale = probe >= 0 && connect(probe, &wanted->at.any, wanted->len) != 0 && errno == ECONNREFUSED;
    return stale && unlink(wanted->at.un.sun_path) == 0;
}

static int listen_alone(const struct wanted *wanted) {
    int fd = bind_alone(wanted);
    if (fd == -EADDRINUSE && wanted->at.any.sa_family == AF_UNIX && clear_stale(wanted)) fd = bind_alone(wanted);
    return fd;
}

// ---- with one

static int port_of(const struct wanted *wanted) {
    switch (wanted->at.any.sa_family) {
        case AF_INET: return ntohs(wanted->at.in.sin_port);
        case AF_INET6: return ntohs(wanted->at.in6.sin6_port);
        default: return -1;
    }
}

static int listen_asked(pando_self *self, const struct wanted *wanted) {
    struct message_listen listen = {.backlog = wanted->backlog, .v6only = !wanted->dual, .len = (uint16_t)wanted->len};
    if (port_of(wanted) == 0) listen.index = ++self->zero_count;
    memcpy(listen.address, &wanted->at, wanted->len);
    return self_ask(self, &listen, sizeof listen);
}

static int listen_on_number(pando_self *self, const char *text, struct pando_error *error) {
    long number;
    struct message_listen listen = {0};
    if (str_parse_number(text + 3, 0, INT32_MAX, &number) != 0)
        return error_say(error, EINVAL, "listen on %s: give a number after fd:", text);
    if (self == NULL || self->channel == NULL)
        return error_say(error, ENOTCONN, "listen on %s: there is no primary that could have it", text);
    listen.fd = (int32_t)number;
    int fd = self_ask(self, &listen, sizeof listen);
    return fd >= 0 ? fd : error_set(error, -fd, "listen on the primary's descriptor %ld", number);
}

int pando_self_listen(pando_self *self, const char *address, int backlog, struct pando_error *error) {
    struct wanted wanted = {.text = address, .backlog = backlog};
    if (address == NULL) return error_say(error, EINVAL, "listen: on what? give an address");
    if (strncmp(address, "fd:", 3) == 0) return listen_on_number(self, address, error);
    int r = strncmp(address, "unix:", 5) == 0 ? parse_unix(&wanted, address + 5, error) : parse_tcp(&wanted, error);
    if (r != 0) return r;
    int fd = self == NULL || self->channel == NULL ? listen_alone(&wanted) : listen_asked(self, &wanted);
    return fd >= 0 ? fd : error_set(error, -fd, "listen on %s", address);
}
