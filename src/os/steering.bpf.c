// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Runs in the kernel. `choose` picks the slot for each new connection and for each one that moves out of a queue; `count_*`
// keeps how many connections each slot has open; the rest serves steering.c.
//
//   SYN --> choose --> slot's socket --> handshake --> its accept queue --> accept --> open --> closed
//                                            `-- count: live + 1                        live - 1 --'
//
// Functions that are not static are verified on their own, for any arguments, so that paths do not multiply.
//
// What is chosen is always a socket of the map; where nothing there will do, the kernel's own hash decides. Nothing is dropped.
#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "steering_memory.h"

// What bpf_loop's callbacks are handed consists of 64-bit numbers alone: verifiers before 6.3 forbid to write a part of a word
// on the stack without CAP_PERFMON.
//
// It needs Linux 5.17, and is built three times. With CAP_PERFMON kernel memory may be read, by plain loads from Linux 6.2 on (SIGHT 2), by
// a helper before (1), and queues count. Without (0) they do not, and the verifier also follows what a processor might speculate: no loop
// may be left then.
#ifndef SIGHT
#error "SIGHT is 0, 1 or 2"
#endif
#define CAN_LOOK (SIGHT > 0)

#define BLOCK (CAN_LOOK ? 8 : 1)  // slots seen to in one call of bpf_loop's callback
#define BLOCKS(count) (((count) + BLOCK - 1) / BLOCK)
#define NOBODY UINT32_MAX

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };  // TCP's flags, byte 13 of its header
enum { FLAGS_AT = 13, IPV4_SOURCE_AT = 12, IPV6_SOURCE_AT = 8 };
enum { ETHERTYPE_IPV4 = 0x0800, FAMILY_INET = 2, MONOTONIC = 1 };

// The kernel's own, as far as it is read here.
#define KERNEL __attribute__((preserve_access_index))
typedef struct {
    int counter;
} KERNEL atomic_t;
struct sock_common {
    uint32_t skc_daddr;
    uint32_t skc_portpair;
} KERNEL;
struct sock_reuseport {
    uint16_t num_socks;
} KERNEL;
struct sock {
    struct sock_common __sk_common;
    uint32_t sk_ack_backlog, sk_max_ack_backlog;
    struct sock_reuseport *sk_reuseport_cb;
} KERNEL;
struct request_sock {
    struct sock_common __req_common;
} KERNEL;
struct request_sock_queue {
    atomic_t qlen, young;
    struct request_sock *rskq_accept_head;
} KERNEL;
struct inet_connection_sock {
    struct request_sock_queue icsk_accept_queue;
} KERNEL;
struct reuseport_array {
    struct sock *ptrs[1];
} KERNEL;
struct list_head {
    struct list_head *next;
} KERNEL;
struct bpf_iter__tcp {
    struct sock_common *sk_common;
} KERNEL;

extern void *bpf_rdonly_cast(const void *object, uint32_t type) __ksym __weak;

// Neither way can fault: what is not there reads as 0.
#define READ(type, address, field)                                                                         \
    (SIGHT == 2 ? ((type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))->field \
                : BPF_CORE_READ((type *)(address), field))

// ---- what is shared with user space

struct steering_memory memory;

// Verifiers before 6.7 go through a callback of bpf_loop once, and take what its argument says then for what it always says:
// a comparison with a constant there would be decided for good. So it says what they cannot know.
#define UNKNOWN(value) ((uint64_t)(value) ^ *(volatile uint64_t *)&memory.zero)

// A pointer that went through memory is a number for the verifier, and can be calculated with. One place for each caller.
static __always_inline uint64_t as_number(const void *pointer, volatile uint64_t *place) {
    *place = (uint64_t)pointer;
    return *place;
}

struct {
    __uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
    __uint(max_entries, STEERING_SLOTS);
    __type(key, uint32_t);
    __type(value, uint64_t);
} sockets SEC(".maps");

// A listener's tag says whose it is; its connections inherit it.
struct tag {
    uint32_t slot;
    uint32_t open;  // this connection is in `live`
};

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
    __type(key, int);
    __type(value, struct tag);
} tags SEC(".maps");

// Connections that left the queue they came into: cookie -> slot. A tag cannot be changed from where that happens.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, 65536);
    __type(key, uint64_t);
    __type(value, uint32_t);
} moved SEC(".maps");

struct watch {
    struct bpf_timer timer;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, uint32_t);
    __type(value, struct watch);
} watches SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} wakes SEC(".maps");

// ---- how loaded a slot is

// An index that the verifier can trust even where a comparison before it was speculated away. The compiler is kept from
// seeing that the mask changes nothing.
static __always_inline uint32_t within(uint32_t index) {
    asm("" : "+r"(index));
    return index & (STEERING_SLOTS - 1);
}

static __always_inline uint32_t slot_at(const struct steering_bank *bank, uint32_t position) {
    return within(bank->order[within(position)]);
}

// A SYN to a full queue is lost, and the client tries again a second later. What moves is taken in however full it is.
__noinline int is_full(uint32_t slot, uint32_t event) {
    uint64_t address = memory.seat[within(slot)].address;
    if (!CAN_LOOK || address == 0 || event == STEERING_MOVE) return false;
    return READ(struct sock, address, sk_ack_backlog) > READ(struct sock, address, sk_max_ack_backlog);
}

// a < b for numbers below 2^63. A plain comparison would teach the verifier bounds of both, which it then carries through
// every path of a loop.
static __always_inline bool is_less(uint64_t a, uint64_t b) { return (int64_t)(a - b) < 0; }

// ---- auto: fewest waiting (in the accept queue, or in a handshake that will put them there), then fewest open, then turns

struct scan {
    uint64_t best;  // waiting << 32 | open, of `slot`
    uint64_t bank, slot, position, from, end;
};

static __always_inline void scan_slot(struct scan *scan, uint32_t slot, uint32_t position) {
    const struct steering_seat *seat = &memory.seat[slot];
    int32_t live = seat->live;
    uint64_t load = live > 0 ? live : 0, address = seat->address;
    if (!is_less(load, scan->best)) return;  // the best so far has nobody waiting: no need to look at the queue
    if (CAN_LOOK) {  // at no address there is nobody
        load |= (uint64_t)READ(struct sock, address, sk_ack_backlog) << 32;
        if (!is_less(load, scan->best)) return;
        load += (uint64_t)(uint32_t)READ(struct inet_connection_sock, address, icsk_accept_queue.young.counter) << 32;
        if (!is_less(load, scan->best)) return;
    }
    scan->best = load;
    scan->slot = slot;
    scan->position = position;
}

static long scan_block(uint32_t index, void *arg) {
    struct scan *scan = arg;
    const struct steering_bank *bank = &memory.bank[scan->bank & 1];
    uint32_t from = scan->from + index * BLOCK, left = scan->end - from;
    if (left >= BLOCK) {
        const uint16_t *order = &bank->order[within(from)];  // one index and one mask for all of them: most of the time goes here
#pragma unroll
        for (uint32_t i = 0; i < BLOCK; i++) scan_slot(scan, order[i] & (STEERING_SLOTS - 1), from + i);
        return scan->best == 0;
    }
    for (uint32_t i = 0; i < BLOCK; i++) {
        if (i >= left) return 1;
        scan_slot(scan, slot_at(bank, from + i), from + i);
    }
    return 1;
}

// Ties go to the next after the one chosen last. Each call takes a number, so two at a time do not choose the same; the
// slots passed over are added to the count, so that they do not lend their turns to the one behind them.
__noinline uint32_t pick_least(uint32_t current, uint32_t turn, uint32_t event) {
    if (current > 1 || turn >= STEERING_CLASSES || event >= STEERING_EVENTS) return NOBODY;
    const struct steering_class *class = &memory.bank[current].class[turn];
    uint64_t *cursor = &memory.cursor[event][turn];
    uint32_t first = class->first, count = class->count;
    if (count == 0) return NOBODY;
    uint32_t start = __sync_fetch_and_add(cursor, 1) % count;
    struct scan scan = {.best = UNKNOWN(INT64_MAX), .bank = current, .slot = UNKNOWN(NOBODY)};
    scan.position = scan.from = first + start;
    scan.end = first + count;
    bpf_loop(BLOCKS(count - start), scan_block, &scan, 0);
    if (scan.best != 0 && start != 0) {
        scan.from = first;
        scan.end = first + start;
        bpf_loop(BLOCKS(start), scan_block, &scan, 0);
    }
    uint32_t passed = scan.position - (first + start);
    if (scan.position < first + start) passed += count;
    if (passed != 0) __sync_fetch_and_add(cursor, passed);
    return scan.slot;
}

// ---- sticky: each slot draws a number for the client, the highest wins; a slot that comes or goes moves nobody else

static __always_inline uint64_t mix(uint64_t x) {
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

static __always_inline uint64_t key_of_ipv6(const uint32_t address[4]) {
    if (address[0] == 0 && address[1] == 0 && address[2] == bpf_htonl(0xffff)) return mix(address[3]);
    return mix(mix((uint64_t)address[0] << 32 | address[1]) ^ ((uint64_t)address[2] << 32 | address[3]));
}

static __always_inline uint64_t client_key(struct sk_reuseport_md *ctx) {
    uint32_t address[4] = {0};
    const struct bpf_sock *moving = ctx->migrating_sk;
    if (moving != NULL) {
        if (moving->family == FAMILY_INET) return mix(moving->dst_ip4);
        for (int i = 0; i < 4; i++) address[i] = moving->dst_ip6[i];
        return key_of_ipv6(address);
    }
    if (ctx->eth_protocol == bpf_htons(ETHERTYPE_IPV4)) {
        bpf_skb_load_bytes_relative(ctx, IPV4_SOURCE_AT, address, 4, BPF_HDR_START_NET);
        return mix(address[0]);
    }
    bpf_skb_load_bytes_relative(ctx, IPV6_SOURCE_AT, address, sizeof address, BPF_HDR_START_NET);
    return key_of_ipv6(address);
}

struct draw {
    uint64_t key, best;
    uint64_t bank, slot, from, end;
};

static long draw_block(uint32_t index, void *arg) {
    struct draw *draw = arg;
    const struct steering_bank *bank = &memory.bank[draw->bank & 1];
    uint32_t from = draw->from + index * BLOCK, left = draw->end - from;
    for (uint32_t i = 0; i < BLOCK; i++) {
        uint32_t position = from + i;
        if (i >= left) return 1;
        uint32_t slot = slot_at(bank, position);
        uint64_t drawn = mix(draw->key + (slot + 1) * UINT64_C(0x9e3779b97f4a7c15));
        if (drawn < draw->best) continue;
        draw->best = drawn;
        draw->slot = slot;
    }
    return 0;
}

// -ln of a number drawn from (0, 1), given as a fraction of 2^64, in units of 2^-30: halve until it is at least a half, then
// ln(1 - y) = -y(6 - 3y) / (6 - 6y + y^2), good to 0.1 % there.
static __always_inline uint64_t minus_ln(uint64_t drawn) {
    const uint64_t one = UINT64_C(1) << 30, ln2 = 744261118;
    uint64_t halvings = 0;
    for (int i = 32; i > 0; i /= 2) {
        if (drawn >> (64 - i) != 0) continue;
        drawn <<= i;
        halvings += i;
    }
    uint64_t y = ~drawn >> 34;
    return halvings * ln2 + y * (6 * one - 3 * y) / (6 * one - 6 * y + (y * y >> 30));
}

// Weighted: least -ln(draw) / weight wins. Among equal weights that is the highest draw, so one logarithm a class will do.
struct contest {
    uint64_t key, bank;
    uint64_t slot, cost, weight;  // of the winner so far; weight 0 = none yet
};

static long contest_class(uint32_t index, void *arg) {
    struct contest *contest = arg;
    const struct steering_bank *bank = &memory.bank[contest->bank & 1];
    const struct steering_class *class = &bank->class[index & (STEERING_CLASSES - 1)];
    struct draw draw = {.key = contest->key, .bank = contest->bank, .best = UNKNOWN(0), .slot = UNKNOWN(NOBODY), .from = class->first};
    draw.end = class->first + class->count;
    bpf_loop(BLOCKS(class->count), draw_block, &draw, 0);
    uint64_t cost = minus_ln(draw.best);
    if (contest->weight != 0 && cost * contest->weight >= contest->cost * class->weight) return 0;
    contest->slot = draw.slot;
    contest->cost = cost;
    contest->weight = class->weight;
    return 0;
}

__noinline uint32_t pick_sticky(uint32_t current, uint64_t key) {
    if (current > 1) return NOBODY;
    struct contest contest = {.key = key, .bank = current, .slot = UNKNOWN(NOBODY), .cost = UNKNOWN(0), .weight = UNKNOWN(0)};
    bpf_loop(memory.bank[current].classes, contest_class, &contest, 0);
    return contest.slot;
}

// ---- choose

__noinline uint32_t event_of(struct sk_reuseport_md *ctx) {
    if (ctx->migrating_sk != NULL) return STEERING_MOVE;
    const uint8_t *header = ctx->data;
    if (header + FLAGS_AT + 1 > (const uint8_t *)ctx->data_end) return STEERING_EVENTS;
    uint8_t flags = header[FLAGS_AT];
    if ((flags & (SYN | ACK | RST | FIN)) == SYN) return STEERING_SYN;
    if ((flags & (SYN | ACK | RST)) == ACK) return STEERING_ACK;
    return STEERING_EVENTS;
}

__noinline uint32_t class_in_turn(uint32_t current, uint32_t event) {
    if (current > 1 || event >= STEERING_EVENTS) return 0;
    const struct steering_bank *bank = &memory.bank[current];
    uint64_t round = bank->round;
    if (bank->classes <= 1 || round == 0) return 0;
    uint64_t place = __sync_fetch_and_add(&memory.turn[event], 1) % round * bank->stride % round;
    for (uint32_t i = 0; i < STEERING_CLASSES - 1; i++)
        if (place < bank->class[i].end) return i;
    return STEERING_CLASSES - 1;
}

// The slot that shall have it, or NOBODY.
static __always_inline uint32_t pick(struct sk_reuseport_md *ctx, uint32_t current, uint32_t event) {
    const struct steering_bank *bank = &memory.bank[current];
    uint32_t policy = memory.policy;
    if (policy == STEERING_STICKY) return pick_sticky(current, client_key(ctx));
    uint32_t turn = class_in_turn(current, event) & (STEERING_CLASSES - 1);
    if (policy == STEERING_AUTO) return pick_least(current, turn, event);
    const struct steering_class *class = &bank->class[turn];
    uint64_t *cursor = &memory.cursor[event][turn];
    if (class->count == 0) return NOBODY;
    uint64_t number = policy == STEERING_RANDOM ? bpf_get_prandom_u32() : __sync_fetch_and_add(cursor, 1);
    return slot_at(bank, class->first + number % class->count);
}

struct search {
    uint64_t cookie, slot;
};

static long search_slot(uint32_t index, void *arg) {
    struct search *search = arg;
    if (memory.cookie[within(index)] != search->cookie) return 0;
    search->slot = index;
    return 1;
}

static __always_inline uint32_t slot_of(uint64_t cookie) {
    uint32_t moving = memory.moving;
    if (moving < STEERING_SLOTS && memory.cookie[within(moving)] == cookie) return moving;
    struct search search = {.cookie = cookie, .slot = UNKNOWN(NOBODY)};
    bpf_loop(STEERING_SLOTS, search_slot, &search, 0);
    return search.slot;
}

// A handshake under way is counted where it ends; a connection already counted is counted elsewhere from now on.
static __always_inline void account_move(struct sk_reuseport_md *ctx, uint32_t to) {
    const struct bpf_sock *moving = ctx->migrating_sk;
    if (ctx->sk == NULL || moving == NULL) return;
    uint32_t state = moving->state;
    if (state == BPF_TCP_NEW_SYN_RECV) return;
    uint32_t from = slot_of(bpf_get_socket_cookie(ctx->sk));
    if (from >= STEERING_SLOTS) return;
    __sync_fetch_and_add(&memory.tally[within(from)].moved_out, 1);
    __sync_fetch_and_add(&memory.tally[within(to)].moved_in, 1);
    if (!memory.counts || (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT && state != BPF_TCP_SYN_RECV)) return;
    uint64_t cookie = bpf_get_socket_cookie((void *)moving);
    const uint32_t *known = bpf_map_lookup_elem(&moved, &cookie);
    bool again = known != NULL;
    if (again) from = *known;
    if (bpf_map_update_elem(&moved, &cookie, &to, BPF_ANY) != 0) return;
    if (!again) __sync_fetch_and_add(&memory.moved_live, 1);
    __sync_fetch_and_add(&memory.seat[within(from)].live, -1);
    __sync_fetch_and_add(&memory.seat[within(to)].live, 1);
}

__noinline int give(struct sk_reuseport_md *ctx, uint32_t slot, uint32_t event) {
    if (bpf_sk_select_reuseport(ctx, &sockets, &slot, 0) != 0) return 0;
    if (event >= STEERING_EVENTS) return 1;
    __sync_fetch_and_add(&memory.tally[within(slot)].chosen[event], 1);
    if (event == STEERING_MOVE) account_move(ctx, slot);
    return 1;
}

// NOBODY is in no map, so it is not given anything.
__noinline int give_unless_full(struct sk_reuseport_md *ctx, uint32_t slot, uint32_t event) {
    return is_full(slot, event) ? 0 : give(ctx, slot, event);
}

// From `start` on, once round all members: those that may be chosen come first, the others after them.
struct walk {
    struct sk_reuseport_md *ctx;
    uint64_t bank, event, start, members, given;
};

static long walk_step(uint32_t index, void *arg) {
    struct walk *walk = arg;
    uint32_t position = walk->start + index;
    if (index >= walk->members) return 1;
    if (position >= walk->members) position -= walk->members;
    uint32_t slot = slot_at(&memory.bank[walk->bank & 1], position);
    if (!give_unless_full(walk->ctx, slot, walk->event)) return 0;
    walk->given = true;
    return 1;
}

__noinline int wake(void) {
    uint64_t nothing = 0;
    return bpf_ringbuf_output(&wakes, &nothing, sizeof nothing, BPF_RB_FORCE_WAKEUP) == 0;
}

// How many sockets are in the group, to tell strangers by.
static __always_inline void note_members(uint32_t slot) {
    uint64_t address = memory.seat[within(slot)].address;
    if (!CAN_LOOK || address == 0) return;
    uint64_t group = (uint64_t)READ(struct sock, address, sk_reuseport_cb);
    uint32_t members = group != 0 ? READ(struct sock_reuseport, group, num_socks) : 0;
    uint32_t before = memory.members;
    if (before == members) return;
    memory.members = members;
    if (before != 0 && before < members) wake();
}

__noinline int give_to_any(struct sk_reuseport_md *ctx, uint32_t current, uint32_t event) {
    if (current > 1 || event >= STEERING_EVENTS) return 0;
    const struct steering_bank *bank = &memory.bank[current];
    struct walk walk = {.ctx = ctx, .bank = current, .event = event, .members = bank->members, .given = UNKNOWN(false)};
    uint32_t among = bank->fit != 0 ? bank->fit : bank->has_lobby ? 1 : bank->members;
    if (among == 0) return 0;
    walk.start = __sync_fetch_and_add(&memory.turn[event], 1) % among;
    bpf_loop(STEERING_SLOTS, walk_step, &walk, 0);
    return walk.given;
}

// While anything waits, or shakes hands, the timer runs; the connection chosen for now is one that will.
static __always_inline void watch_on(struct watch *watch) {
    if (memory.patience_ns == 0 || __sync_lock_test_and_set(&memory.watching, 1) != 0) return;
    if (bpf_timer_start(&watch->timer, memory.patience_ns, 0) != 0) memory.watching = 0;
}

static __always_inline void watch_queues(void) {
    if (!CAN_LOOK || memory.patience_ns == 0 || memory.watching) return;
    struct watch *watch = bpf_map_lookup_elem(&watches, &(uint32_t){0});
    if (watch != NULL) watch_on(watch);
}

// A connection of user space's own, to ask this very slot. The data begin with the TCP header: its first half is the port. Not
// static, so that what is compared here multiplies no paths in `choose` (it would be refused without CAP_PERFMON).
__noinline int give_probe(struct sk_reuseport_md *ctx, uint32_t event) {
    const uint16_t *source = ctx->data, *end = ctx->data_end;
    if (memory.probe_port == 0 || event == STEERING_MOVE || source + 1 > end || *source != memory.probe_port) return 0;
    return give(ctx, memory.probe_slot, event);
}

SEC("sk_reuseport/migrate") int choose(struct sk_reuseport_md *ctx) {
    uint32_t event = event_of(ctx);
    if (event >= STEERING_EVENTS) return SK_PASS;  // begins nothing
    uint32_t current = memory.current & 1;
    if (give_probe(ctx, event)) return SK_PASS;
    uint32_t slot = memory.bank[current].fit != 0 ? pick(ctx, current, event) : NOBODY;
    if (!give_unless_full(ctx, slot, event) && !give_to_any(ctx, current, event))
        give(ctx, slot, event);  // all are full: better to come again than to go to a stranger
    note_members(slot);
    watch_queues();
    return SK_PASS;
}

// ---- counting

static __always_inline void on_opened(struct tag *tag) {
    tag->open = 1;
    __sync_fetch_and_add(&memory.seat[within(tag->slot)].live, 1);
    __sync_fetch_and_add(&memory.tally[within(tag->slot)].opened, 1);
}

static __always_inline void on_closed(void *sk, struct tag *tag, int state) {
    uint32_t slot = tag->slot;
    if (!tag->open) return;
    tag->open = 0;
    if (memory.moved_live > 0) {
        uint64_t cookie = bpf_get_socket_cookie(sk);
        const uint32_t *elsewhere = bpf_map_lookup_elem(&moved, &cookie);
        if (elsewhere != NULL) {
            slot = *elsewhere;
            bpf_map_delete_elem(&moved, &cookie);
            __sync_fetch_and_add(&memory.moved_live, -1);
        }
    }
    __sync_fetch_and_add(&memory.seat[within(slot)].live, -1);
    if (state == BPF_TCP_CLOSE) __sync_fetch_and_add(&memory.tally[within(slot)].cut, 1);
}

// The worker is done with a connection when its end is closed, however long the client takes to say goodbye.
static __always_inline bool is_done(int state) { return state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_LAST_ACK || state == BPF_TCP_CLOSE; }

SEC("sockops") int count_in_cgroup(struct bpf_sock_ops *ops) {
    struct bpf_sock *sk;
    struct tag *tag;
    switch (ops->op) {
        case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
            sk = ops->sk;
            if (sk == NULL) return 1;
            tag = bpf_sk_storage_get(&tags, sk, NULL, 0);
            if (tag == NULL) return 1;
            if (bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG) == 0) on_opened(tag);
            return 1;
        case BPF_SOCK_OPS_STATE_CB:
            sk = ops->sk;
            if (sk == NULL || !is_done(ops->args[1])) return 1;
            tag = bpf_sk_storage_get(&tags, sk, NULL, 0);
            if (tag != NULL) on_closed(ops, tag, ops->args[1]);
            return 1;
    }
    return 1;
}

// Where the cgroup cannot be had. Misses a change when it interrupts itself, which `recount` repairs.
SEC("tp_btf/inet_sock_set_state") int BPF_PROG(count_anywhere, struct sock *sk, int before, int state) {
    bool opens = before == BPF_TCP_LISTEN && state == BPF_TCP_SYN_RECV;
    if (!opens && !is_done(state)) return 0;
    struct tag *tag = bpf_sk_storage_get(&tags, sk, NULL, 0);
    if (tag == NULL) return 0;
    if (opens)
        on_opened(tag);
    else
        on_closed(sk, tag, state);
    return 0;
}

// ---- watching

struct round {
    uint64_t busy, stuck;
};

// The longest waiting connection is known by the address of its request and the client's port: the address alone is used
// again at once. Found twice, it has waited for a tick or more, and so long nothing was accepted.
static long look_at(uint32_t position, void *arg) {
    struct round *round = arg;
    uint32_t slot = slot_at(&memory.bank[memory.current & 1], position);
    uint64_t address = memory.seat[slot].address;
    if (address == 0) return 0;
    uint64_t head = as_number(READ(struct inet_connection_sock, address, icsk_accept_queue.rskq_accept_head), &memory.number[0]);
    if (head != 0 || READ(struct inet_connection_sock, address, icsk_accept_queue.qlen.counter) != 0) round->busy = 1;
    if (head != 0) head ^= (uint64_t)READ(struct request_sock, head, __req_common.skc_portpair) << 32;
    uint32_t waits = head != 0 && head == memory.head[slot] ? memory.waits[slot] + 1 : 0;
    memory.head[slot] = head;
    memory.waits[slot] = waits;
    if (waits != 0 && (waits & (waits - 1)) == 0) round->stuck = 1;  // once, then at 2, 4, 8 ... ticks
    return 0;
}

static int on_tick(void *map, uint32_t *key, struct watch *watch) {
    struct round round = {.busy = UNKNOWN(0), .stuck = UNKNOWN(0)};
    memory.watching = 0;  // before looking: who comes after that starts the timer
    bpf_loop(memory.bank[memory.current & 1].members, look_at, &round, 0);
    if (round.busy) watch_on(watch);
    if (round.stuck) wake();
    return 0;
}

SEC("syscall") int start_watch(void *nothing) {
    struct watch *watch = bpf_map_lookup_elem(&watches, &(uint32_t){0});
    if (watch == NULL) return 1;
    bpf_timer_init(&watch->timer, &watches, MONOTONIC);  // fails when it was done before
    if (bpf_timer_set_callback(&watch->timer, on_tick) != 0) return 1;
    memory.watching = 0;
    watch_on(watch);
    return 0;
}

// ---- on request of user space

// Where the slot's socket is in the kernel. Returns how many are in the middle of their handshake with it.
SEC("raw_tp") int learn(struct bpf_raw_tracepoint_args *args) {
    uint32_t slot = args->args[0];
    if (slot >= STEERING_SLOTS) return 0;
    uint64_t entry = as_number(&sockets, &memory.number[1]) + bpf_core_field_offset(struct reuseport_array, ptrs) + slot * sizeof(uint64_t);
    uint64_t address = as_number(READ(struct list_head, entry, next), &memory.number[1]);
    memory.seat[within(slot)].address = address;
    return address != 0 ? READ(struct inet_connection_sock, address, icsk_accept_queue.qlen.counter) : 0;
}

// Once for every TCP socket of the network namespace.
SEC("iter/tcp") int recount(struct bpf_iter__tcp *ctx) {
    struct sock_common *common = ctx->sk_common;
    if (common == NULL) return 0;
    struct tcp_sock *sk = bpf_skc_to_tcp_sock(common);
    if (sk == NULL) return 0;
    const struct tag *tag = bpf_sk_storage_get(&tags, sk, NULL, 0);
    if (tag == NULL || !tag->open) return 0;
    uint64_t cookie = bpf_get_socket_cookie(sk);
    const uint32_t *elsewhere = bpf_map_lookup_elem(&moved, &cookie);
    uint32_t slot = elsewhere != NULL ? *elsewhere : tag->slot;
    __sync_fetch_and_add(&memory.counted[within(slot)], 1);
    return 0;
}

char program_license[] SEC("license") = "Dual MIT/GPL";
