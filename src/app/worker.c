// SPDX-License-Identifier: MIT
// HTTP servers in a worker: where the cluster (member) and the server (http), which do not know each other, meet.
#include <errno.h>
#include <pando/http.h>
#include <pando/worker.h>
#include <stdlib.h>

#include "error.h"
#include "member.h"
#include "server.h"

struct served {
    struct served *next;
    pando_server *server;  // borrowed
    uint32_t deadline_ms;
};

// All servers of one worker; the channel is closed when the last of them is.
struct serving {
    pando_self *self;  // borrowed; NULL: closed meanwhile
    struct served *first;
    int open;
    bool draining;
};

static void forget(struct serving *serving) {
    for (struct served *served; (served = serving->first) != NULL;) {
        serving->first = served->next;
        free(served);
    }
    free(serving);
}

static void on_closed(void *arg) {
    struct serving *serving = arg;
    if (--serving->open > 0) return;
    if (serving->self != NULL)
        pando_self_disconnect(serving->self);
    else
        forget(serving);
}

static void drain(pando_self *self, void *arg) {
    struct serving *serving = arg;
    (void)self;
    serving->draining = true;
    serving->open++;  // not before all have been told
    for (struct served *served = serving->first; served != NULL; served = served->next) {
        serving->open++;
        pando_server_close(served->server, served->deadline_ms, on_closed, serving);
    }
    on_closed(serving);
}

static void on_self_gone(void *arg) {
    struct serving *serving = arg;
    serving->self = NULL;
    if (serving->open == 0) forget(serving);
}

static struct serving *serving_of(pando_self *self) {
    struct serving *serving = member_finisher(self)->arg;
    if (serving != NULL) return serving;
    serving = calloc(1, sizeof *serving);
    if (serving == NULL) return NULL;
    serving->self = self;
    member_set_finisher(self, &(struct member_finisher){.drain = drain, .free = on_self_gone, .arg = serving});
    return serving;
}

static int join(pando_self *self, pando_server *server, uint32_t deadline_ms) {
    struct serving *serving = serving_of(self);
    for (struct served *at = serving != NULL ? serving->first : NULL; at != NULL; at = at->next)
        if (at->server == server) return 0;
    struct served *served = serving != NULL ? malloc(sizeof *served) : NULL;
    if (served == NULL) return -ENOMEM;
    *served = (struct served){.next = serving->first, .server = server, .deadline_ms = deadline_ms};
    serving->first = served;
    return 0;
}

int pando_self_serve(pando_self *self, struct pando_server *server, const char *address, uint32_t deadline_ms, struct pando_error *error) {
    if (server == NULL || address == NULL) return error_say(error, EINVAL, "serve: give a server and an address");
    if (!pando_self_is_connected(self)) return pando_server_listen(server, address, error);
    int fd = pando_self_listen(self, address, 0, error);
    server->leaves_queue = true;  // the siblings accept from there too, or are given it
    int r = fd < 0 ? fd : pando_server_listen_fd_take(server, fd, error);
    if (r == 0 && (r = join(self, server, deadline_ms)) != 0) error_set(error, -r, "listen on %s", address);
    return r;
}
