// SPDX-License-Identifier: MIT
// A server that asks for its sockets: started without the seccomp filter. unfiltered ADDRESS...
#include <pando/pando.h>
#include <stdio.h>
#include <unistd.h>
#include <uv.h>

PANDO_WORKER_UNFILTERED;

static void hello(pando_exchange *exchange, void *arg) {
    static char text[64];  // the same each time, and valid until it has left
    (void)arg;
    int len = snprintf(text, sizeof text, "pid %d\nslot %d\n", (int)getpid(), pando_self_slot());
    pando_exchange_set_status(exchange, 200, NULL);
    pando_exchange_end(exchange, text, (size_t)len);
}

int main(int argc, char **argv) {
    struct pando_error error = {0};
    pando_self *self = NULL;
    uv_loop_t *loop = uv_default_loop();
    pando_server *server = pando_server_new(&(struct pando_server_options){.on_request = hello, .loop = loop}, &error);
    int r = server == NULL ? -1 : pando_self_open(&self, &(struct pando_self_options){.loop = loop, .background = true}, &error);
    for (int i = 1; i < argc && r == 0; i++) r = pando_self_serve(self, server, argv[i], 30000, &error);
    if (r != 0) return fprintf(stderr, "unfiltered: %s\n", error.text), 1;
    pando_server_run(server, true);
    pando_self_close(self);
    pando_server_free(server);
    uv_loop_close(loop);
    return 0;
}
