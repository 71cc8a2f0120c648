// SPDX-License-Identifier: MIT
#include "reuseport.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    CODE_MAX = BPF_MAXINSNS,
    IP_SOURCE = 12,   // offset in an IPv4 header
    IP6_SIZE = 40,
    IP6_SOURCE = 8,   // in an IPv6 header, four words
    MEMORY_CLIENT = 0,  // scratch: the client's address as one word
    MEMORY_BEST = 1,    // the best score so far
    MEMORY_INDEX = 2,   // who has it
};

struct code {
    struct sock_filter at[CODE_MAX];
    unsigned short len;
};

static void add(struct code *code, struct sock_filter instruction) {
    assert(code->len < CODE_MAX);
    code->at[code->len++] = instruction;
}

// load a random word; modulo count; compare with 0, 1, ... and return the index of the first that matches
static void build_random(struct code *code, const struct reuseport_member *members, size_t count) {
    if (count > 1) {
        add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)));
        add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, (uint32_t)count));
    }
    for (size_t i = 0; i + 1 < count; i++) {
        add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)i, 0, 1));
        add(code, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, members[i].index));
    }
    add(code, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, members[count - 1].index));
}

static void build_client(struct code *code) {
    static const unsigned char words = 4;
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4));
    add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 2));
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + IP_SOURCE)));
    add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1 + 3 * (words - 1), 0, 0));
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + IP6_SOURCE)));
    for (unsigned char i = 1; i < words; i++) {
        add(code, (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0));
        add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + IP6_SOURCE + 4 * i)));
        add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0));
    }
    add(code, (struct sock_filter)BPF_STMT(BPF_ST, MEMORY_CLIENT));
}

// Rendezvous hashing: each member has a score for each client, the highest gets it. The score is a product with an odd
// constant of the member's own, folded: cheap, and good enough to spread clients evenly.
static void build_score(struct code *code, const struct reuseport_member *member) {
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_MEM, MEMORY_CLIENT));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, (member->slot + 1) * UINT32_C(0x9e3779b1)));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, UINT32_C(0x85ebca6b)));
    add(code, (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 15));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, UINT32_C(0xc2b2ae35)));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 1));
}

static void build_sticky(struct code *code, const struct reuseport_member *members, size_t count) {
    build_client(code);
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, members[0].index));
    add(code, (struct sock_filter)BPF_STMT(BPF_ST, MEMORY_INDEX));
    build_score(code, &members[0]);
    add(code, (struct sock_filter)BPF_STMT(BPF_ST, MEMORY_BEST));
    for (size_t i = 1; i < count; i++) {
        build_score(code, &members[i]);
        add(code, (struct sock_filter)BPF_STMT(BPF_LDX | BPF_MEM, MEMORY_BEST));
        add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_X, 0, 0, 3));
        add(code, (struct sock_filter)BPF_STMT(BPF_ST, MEMORY_BEST));
        add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, members[i].index));
        add(code, (struct sock_filter)BPF_STMT(BPF_ST, MEMORY_INDEX));
    }
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_MEM, MEMORY_INDEX));
    add(code, (struct sock_filter)BPF_STMT(BPF_RET | BPF_A, 0));
}

// The source port: behind an IPv4 header of any length, or behind the fixed IPv6 one.
static void build_probe(struct code *code, struct reuseport_probe probe) {
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4));
    add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 6));
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf));
    add(code, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 2));
    add(code, (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0));
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_IND, (uint32_t)SKF_NET_OFF));
    add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0));
    add(code, (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, (uint32_t)(SKF_NET_OFF + IP6_SIZE)));
    add(code, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, probe.port, 0, 1));
    add(code, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, probe.index));
}

int reuseport_choose(int fd, enum reuseport_policy policy, const struct reuseport_member *members, size_t count,
                     struct reuseport_probe probe) {
    assert(count >= 1 && count <= REUSEPORT_CHOICE_MAX);
    struct code code = {.len = 0};
    if (probe.port != 0) build_probe(&code, probe);
    if (policy == REUSEPORT_STICKY && count > 1)
        build_sticky(&code, members, count);
    else
        build_random(&code, members, count);
    struct sock_fprog program = {.len = code.len, .filter = code.at};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0 ? 0 : -errno;
}
