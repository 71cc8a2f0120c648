// SPDX-License-Identifier: MIT
// What a program may listen on, as a key: family, type, address, port, and for IPv6 whether IPv4 is excluded.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "record.h"

#define ADDRESS_TEXT_SIZE 128

// Fills the key members of `out` (the rest zeroed). `any` has `len` bytes from outside. 0, or -EINVAL for what is no address of ours.
int address_from(struct record_address *out, const struct sockaddr *any, socklen_t len, int type, bool v6only);
// The key of an open socket: getsockname(2) and its options. 0 or -errno.
int address_of_socket(struct record_address *out, int fd);
bool address_equal(const struct record_address *a, const struct record_address *b);
int address_port(const struct record_address *address);  // -1 for unix
void address_set_port(struct record_address *address, int port);
bool address_is_multicast(const struct record_address *address);
// "[::]:3000", "0.0.0.0:3000", "udp 0.0.0.0:53", "/run/app.sock", "@app". Returns `out`.
const char *address_text(const struct record_address *address, char *out, size_t size);
