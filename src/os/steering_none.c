// SPDX-License-Identifier: MIT
// In place of the steering files where clang, bpftool or libbpf were missing at build time. There never is a steering.
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "fd.h"
#include "steering.h"

#define WHY "this pando was built without eBPF (" STEERING_NONE_WHY ")"

int steering_probe(struct pando_error *error) { return error_say(error, EOPNOTSUPP, WHY); }

int steering_open(struct steering **out, const struct steering_options *options, struct pando_error *error) {
    (void)out, (void)options;
    return error_say(error, EOPNOTSUPP, WHY);
}

int steering_import(struct steering **out, int fds_take[static STEERING_FD_COUNT], struct pando_error *error) {
    (void)out;
    for (int i = 0; i < STEERING_FD_COUNT; i++) fd_close(&fds_take[i]);
    return error_say(error, EOPNOTSUPP, WHY);
}

void steering_close(struct steering *steering) { (void)steering; }

// What follows takes a steering, so it is never called.
void steering_export(const struct steering *steering, int out_fds[static STEERING_FD_COUNT]) { (void)steering, (void)out_fds, abort(); }
const char *steering_lacks(const struct steering *steering) { (void)steering, abort(); }
int steering_add(struct steering *steering, unsigned slot, int fd, struct pando_error *error) {
    (void)steering, (void)slot, (void)fd, (void)error, abort();
}
void steering_remove(struct steering *steering, unsigned slot) { (void)steering, (void)slot, abort(); }
int steering_set_weight(struct steering *steering, unsigned slot, unsigned weight) { (void)steering, (void)slot, (void)weight, abort(); }
int steering_set_weights(struct steering *steering, const uint16_t *weights) { (void)steering, (void)weights, abort(); }
unsigned steering_weight(const struct steering *steering, unsigned slot) { (void)steering, (void)slot, abort(); }
void steering_set_lobby(struct steering *steering, int slot) { (void)steering, (void)slot, abort(); }
void steering_set_probe(struct steering *steering, unsigned slot, uint16_t port) { (void)steering, (void)slot, (void)port, abort(); }
void steering_set_policy(struct steering *steering, enum steering_policy policy) { (void)steering, (void)policy, abort(); }
int steering_move_queue(struct steering *steering, unsigned slot, int fd, unsigned *out_moved, struct pando_error *error) {
    (void)steering, (void)slot, (void)fd, (void)out_moved, (void)error, abort();
}
int steering_watch(struct steering *steering, uint64_t patience_ns) { (void)steering, (void)patience_ns, abort(); }
int steering_wake_fd(const struct steering *steering) { (void)steering, abort(); }
void steering_wake_take(struct steering *steering) { (void)steering, abort(); }
uint64_t steering_waited_ns(const struct steering *steering, unsigned slot) { (void)steering, (void)slot, abort(); }
struct steering_counts steering_counts(const struct steering *steering, unsigned slot) {
    (void)steering, (void)slot, abort();
}
unsigned steering_strangers(const struct steering *steering) { (void)steering, abort(); }
int steering_recount(struct steering *steering) { (void)steering, abort(); }
