// SPDX-License-Identifier: MIT
#include "reuseport.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>

// load a random word; modulo count; compare with 0, 1, ... and return the index of the first that matches
int reuseport_choose(int fd, const unsigned *indexes, size_t count) {
    assert(count >= 1 && count <= REUSEPORT_CHOICE_MAX);
    struct sock_filter code[2 * REUSEPORT_CHOICE_MAX + 2];
    unsigned short len = 0;
    if (count > 1) {
        code[len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM));
        code[len++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, (uint32_t)count);
    }
    for (size_t i = 0; i + 1 < count; i++) {
        code[len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)i, 0, 1);
        code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, indexes[i]);
    }
    code[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, indexes[count - 1]);
    struct sock_fprog program = {.len = len, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0 ? 0 : -errno;
}
