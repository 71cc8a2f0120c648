// SPDX-License-Identifier: MIT
// A socket's name in the store is its row and its place in the kernel's group: the next instance cannot ask the kernel for
// that order, and a classic steering program goes by it. Where the place changes, the socket is stored anew.
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "str.h"

#define PREFIX "pando-"

void store_name_write(char out[static STORE_NAME_SIZE], int row, uint32_t index) {
    snprintf(out, STORE_NAME_SIZE, PREFIX "%d-%u", row, index);
}

bool store_name_read(const char *name, int *out_row, uint32_t *out_index) {
    char row_text[16];
    long row, index;
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0) return false;
    name += strlen(PREFIX);
    size_t len = strcspn(name, "-");
    if (name[len] != '-' || len >= sizeof row_text) return false;
    memcpy(row_text, name, len);
    row_text[len] = '\0';
    if (str_parse_number(row_text, 0, RECORD_SOCKET_MAX - 1, &row) != 0) return false;
    if (str_parse_number(name + len + 1, 0, RECORD_SOCKET_MAX - 1, &index) != 0) return false;
    *out_row = (int)row;
    *out_index = (uint32_t)index;
    return true;
}

static int let_go(struct listeners *listeners, int row) {
    struct record_stored *stored = &listeners->record->socket[row].stored;
    char name[STORE_NAME_SIZE], text[CHANNEL_DATA_SIZE];
    store_name_write(name, row, stored->index);
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
    int r = link_notify(listeners->link, text, -1);
    if (r == 0) stored->there = false;
    return r;
}

// FDPOLL=0: a queue is moved by shutdown(2), which a supervisor that watches would take for the socket's end.
static int put(struct listeners *listeners, int row) {
    struct record_socket *socket = &listeners->record->socket[row];
    char name[STORE_NAME_SIZE], text[CHANNEL_DATA_SIZE];
    store_name_write(name, row, socket->index);
    snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
    int r = link_notify(listeners->link, text, listeners->fd[row]);
    if (r == 0) socket->stored = (struct record_stored){.there = true, .index = socket->index, .inode = socket->inode};
    return r;
}

int store_update(struct listeners *listeners) {
    int r = 0;
    for (int i = 0; r == 0 && i < (int)listeners->record->socket_end; i++) {
        const struct record_socket *socket = &listeners->record->socket[i];
        bool ours = socket->used && !socket->given && listeners->fd[i] >= 0;
        bool as_is = ours && socket->stored.index == socket->index && socket->stored.inode == socket->inode;
        if (socket->stored.there && !as_is) r = let_go(listeners, i);
        if (r == 0 && ours && !socket->stored.there) r = put(listeners, i);
    }
    return r;
}
