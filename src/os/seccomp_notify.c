// SPDX-License-Identifier: MIT
#include "seccomp_notify.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fd.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

enum { NETLINK_ADDRESS_LEN = 12, SOCKET_TYPE_MASK = 0xf };

static int rules_read(scmp_filter_ctx ctx) {
    int r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(bind), 1, SCMP_A2(SCMP_CMP_NE, NETLINK_ADDRESS_LEN));
    return r != 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(listen), 0);
}

static int rules_hand(scmp_filter_ctx ctx) {
    static const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        int r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]),
                                 SCMP_A1(SCMP_CMP_MASKED_EQ, SOCKET_TYPE_MASK, SOCK_STREAM));
        if (r != 0) return r;
    }
    return rules_read(ctx);
}

// The arguments are ints, whose upper half a caller may leave as it was.
static struct scmp_arg_cmp is_int(unsigned argument, uint32_t value) {
    return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = UINT32_MAX, .datum_b = value};
}

static int rule_shutdown(scmp_filter_ctx ctx, uint32_t fd, uint32_t how) {
    return seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(shutdown), 2, is_int(0, fd), is_int(1, how));
}

static int rules_shutdown(scmp_filter_ctx ctx, uint64_t numbers) {
    int r = 0;
    for (uint32_t fd = 0; fd < NOTIFY_NUMBERS && r == 0; fd++) {
        if ((numbers >> fd & 1) == 0) continue;
        r = rule_shutdown(ctx, fd, SHUT_RD);
        if (r == 0) r = rule_shutdown(ctx, fd, SHUT_RDWR);
    }
    return r;
}

static int filter_export(scmp_filter_ctx ctx, struct sock_filter **out, size_t *out_count) {
    scoped_fd memfd = memfd_create("pando filter", MFD_CLOEXEC);
    if (memfd < 0) return -errno;
    int r = seccomp_export_bpf(ctx, memfd);
    if (r != 0) return r;
    struct stat info;
    if (fstat(memfd, &info) != 0) return -errno;
    struct sock_filter *code = malloc((size_t)info.st_size);
    if (code == NULL) return -ENOMEM;
    if (pread(memfd, code, (size_t)info.st_size, 0) != info.st_size) {
        free(code);
        return -EIO;
    }
    *out = code;
    *out_count = (size_t)info.st_size / sizeof *code;
    return 0;
}

int notify_filter_build(enum notify_filter kind, uint64_t shut_down, struct sock_filter **out, size_t *out_count) {
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (ctx == NULL) return -ENOMEM;
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW);
    if (r == 0) r = kind == NOTIFY_FILTER_READ ? rules_read(ctx) : rules_hand(ctx);
    if (r == 0) r = rules_shutdown(ctx, shut_down);
    if (r == 0) r = filter_export(ctx, out, out_count);
    seccomp_release(ctx);
    return r;
}

// The kernel checks the flags before it reads the program: EFAULT for a NULL program means that it knows them.
static bool flags_known(unsigned flags) {
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, NULL) != 0 && errno == EFAULT;
}

unsigned notify_filter_flags(void) {
    unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if (flags_known(flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)) flags |= SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    if (flags_known(flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW)) flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    return flags;
}

int notify_receive(int listener, struct seccomp_notif *out) {
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
    if (poll(&poll_fd, 1, 0) < 0) return -errno;
    if ((poll_fd.revents & POLLIN) == 0) return (poll_fd.revents & (POLLHUP | POLLERR)) != 0 ? -EPIPE : 0;
    memset(out, 0, sizeof *out);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, out) == 0) return 1;
    int error = errno;
    memset(out, 0, sizeof *out);
    return error == ENOENT || error == EINTR ? 0 : -error;
}

bool notify_valid(int listener, uint64_t id) { return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0; }

static int notify_send(int listener, struct seccomp_notif_resp *response) {
    return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, response) == 0 ? 0 : -errno;
}

int notify_answer(int listener, uint64_t id, int error, int64_t value) {
    struct seccomp_notif_resp response = {.id = id, .error = error, .val = error == 0 ? value : 0};
    return notify_send(listener, &response);
}

int notify_continue(int listener, uint64_t id) {
    struct seccomp_notif_resp response = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    return notify_send(listener, &response);
}

int notify_add_fd(int listener, uint64_t id, int fd, int target, bool cloexec) {
    struct seccomp_notif_addfd add = {.id = id,
                                      .flags = target >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0,
                                      .srcfd = (uint32_t)fd,
                                      .newfd = target >= 0 ? (uint32_t)target : 0,
                                      .newfd_flags = cloexec ? O_CLOEXEC : 0};
    int r = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
    return r >= 0 ? r : -errno;
}
