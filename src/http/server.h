// SPDX-License-Identifier: MIT
// The server: its listeners, its connections, what they share. One loop, one thread.
#pragma once

#include <pando/http.h>
#include <uv.h>

#include "block.h"
#include "h1_write.h"
#include "list.h"
#include "wheel.h"

struct listener;

struct pando_server {
    struct pando_server_options options;  // every 0 replaced
    uv_loop_t *loop;                      // borrowed, or &own_loop
    uv_loop_t own_loop;
    uv_timer_t tick;
    uv_signal_t term, interrupt;
    struct listener *listeners;  // owned
    int reserve_fd;              // owned; given up for a moment when accept finds no descriptor
    struct list_node conns;      // conn.link
    struct wheel wheel;
    struct block_pool blocks;
    struct pando_exchange *idle_exchanges;  // owned; exchange.next_idle
    uint32_t idle_exchange_count, handle_count;
    char date[H1_DATE_SIZE];
    uint64_t date_second;  // of the loop's clock
    uint64_t drain_from_ms, drain_deadline_ms;
    bool own_loop_used, closing, closed, has_signals;
    bool leaves_queue;  // at max_connections: who comes then waits in the queue, where another process may accept
    bool full;          // that is so now
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    struct pando_server_stats stats;
};

static inline uint64_t server_now_ms(const struct pando_server *server) { return uv_now(server->loop); }
const char *server_date(struct pando_server *server);     // "Date: ...\r\n", H1_DATE_SIZE - 1 bytes
void server_on_conn_closed(struct pando_server *server);  // the last one ends a closing server
