// SPDX-License-Identifier: MIT
// `end` counts all bytes ever written: the ring holds those from end - RING_BYTES on, of which the first line may be cut.
#include "ring.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"

#define RING_MAGIC UINT64_C(0x50616e646f526e67)
enum { RING_BYTES = 1 << 20 };

struct ring {
    uint64_t magic;
    uint64_t end;
    char data[RING_BYTES];
};

static struct ring *map_it(int memfd) {
    void *at = mmap(NULL, sizeof(struct ring), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    return at == MAP_FAILED ? NULL : at;
}

struct ring *ring_create(int *out_memfd) {
    scoped_fd memfd = memfd_create("pando output", MFD_CLOEXEC);
    if (memfd < 0 || ftruncate(memfd, sizeof(struct ring)) != 0) return NULL;
    struct ring *ring = map_it(memfd);
    if (ring == NULL) return NULL;
    ring->magic = RING_MAGIC;
    *out_memfd = fd_take(&memfd);
    return ring;
}

struct ring *ring_map(int memfd) {
    struct stat info;
    if (fstat(memfd, &info) != 0 || info.st_size != (off_t)sizeof(struct ring)) return NULL;
    struct ring *ring = map_it(memfd);
    return ring != NULL && ring->magic == RING_MAGIC ? ring : NULL;
}

void ring_append(struct ring *ring, const char *line, size_t len) {
    size_t at = ring->end % RING_BYTES;
    size_t first = RING_BYTES - at < len ? RING_BYTES - at : len;
    if (len > RING_BYTES) return;
    memcpy(ring->data + at, line, first);
    memcpy(ring->data, line + first, len - first);
    ring->end += len;
}

static char byte_at(const struct ring *ring, uint64_t position) { return ring->data[position % RING_BYTES]; }

// Where the last `lines` whole lines begin.
static uint64_t find_start(const struct ring *ring, size_t lines) {
    uint64_t oldest = ring->end > RING_BYTES ? ring->end - RING_BYTES : 0;
    uint64_t at = ring->end;
    while (at > oldest && (at == ring->end || byte_at(ring, at - 1) != '\n' || lines-- > 1)) at--;
    if (at == oldest && oldest > 0)
        while (at < ring->end && byte_at(ring, at++) != '\n') {}
    return at;
}

void ring_tail(const struct ring *ring, size_t lines, void (*each)(void *arg, const char *line, size_t len), void *arg) {
    char *line = malloc(RING_BYTES);
    size_t len = 0;
    if (line == NULL || lines == 0) {
        free(line);
        return;
    }
    for (uint64_t at = find_start(ring, lines); at < ring->end; at++) {
        line[len++] = byte_at(ring, at);
        if (line[len - 1] != '\n') continue;
        each(arg, line, len - 1);
        len = 0;
    }
    free(line);
}
