// SPDX-License-Identifier: MIT
// What a hostile worker can put on libpando's channel: packets of any bytes, some with descriptors. One byte says how long the next is.
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message.h"

struct reader {
    struct message_channel *channel;
    unsigned calls;
};

static bool on_message(void *arg, struct message *message) {
    struct reader *reader = arg;
    unsigned char sum = 0;
    for (size_t i = 0; i < message->len; i++) sum = (unsigned char)(sum + (unsigned char)message->data[i]);
    if (message->kind <= 0 || message->kind >= MESSAGE_KIND_END || (message->fd >= 0 && !message->has_fd)) abort();
    reader->calls++;
    if (sum == 7) message_channel_close(reader->channel);
    if (sum == 8) message_channel_on_readable(reader->channel);
    return sum != 9;
}

static void send_packet(int fd, const uint8_t *data, size_t size, bool with_fd) {
    struct iovec part = {(void *)(uintptr_t)data, size};
    char control[CMSG_SPACE(sizeof(int) * 2)] = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (with_fd) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int) * 2), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(header), (int[]){fd, fd}, sizeof(int) * 2);
    }
    if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int pair[2];
    struct reader reader = {0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) abort();
    reader.channel =
        message_channel_open(pair[0], &(struct message_channel_options){.message_max = 300, .on_message = on_message, .arg = &reader});
    int r = 1;
    for (size_t at = 0; at < size && r == 1;) {
        size_t len = data[at++];
        if (len > size - at) len = size - at;
        send_packet(pair[1], data + at, len, len % 3 == 0);
        at += len;
        r = message_channel_on_readable(reader.channel);
        if (r == 1 && message_channel_has_more(reader.channel)) r = message_channel_resume(reader.channel);
    }
    if (r != -ECANCELED) message_channel_close(reader.channel);
    close(pair[1]);
    return 0;
}
