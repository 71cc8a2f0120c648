// SPDX-License-Identifier: MIT
#include "record.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"

static int map_it(int memfd, struct record **out_record) {
    void *at = mmap(NULL, sizeof(struct record), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (at == MAP_FAILED) return -errno;
    *out_record = at;
    return 0;
}

int record_create(struct record **out_record, int *out_memfd) {
    scoped_fd memfd = memfd_create("pando record", MFD_CLOEXEC);
    if (memfd < 0) return -errno;
    if (ftruncate(memfd, sizeof(struct record)) != 0) return -errno;
    int r = map_it(memfd, out_record);
    if (r != 0) return r;
    (*out_record)->magic = RECORD_MAGIC;
    (*out_record)->version = RECORD_VERSION;
    (*out_record)->size = sizeof(struct record);
    *out_memfd = fd_take(&memfd);
    return 0;
}

void record_clear(struct record *record) {
    memset((char *)record + offsetof(struct record, generation), 0, sizeof *record - offsetof(struct record, generation));
}

int record_examine(int memfd) {
    struct stat info;
    struct {
        uint64_t magic;
        uint32_t version, size;
    } head;
    if (fstat(memfd, &info) != 0) return -errno;
    if (info.st_size != (off_t)sizeof(struct record)) return -EPROTO;
    if (pread(memfd, &head, sizeof head, 0) != sizeof head) return -EIO;
    return head.magic == RECORD_MAGIC && head.version == RECORD_VERSION && head.size == sizeof(struct record) ? 0 : -EPROTO;
}

int record_map(int memfd, struct record **out_record) {
    int r = record_examine(memfd);
    return r != 0 ? r : map_it(memfd, out_record);
}
