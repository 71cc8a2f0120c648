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

int record_map(int memfd, struct record **out_record) {
    struct stat info;
    if (fstat(memfd, &info) != 0) return -errno;
    if (info.st_size != (off_t)sizeof(struct record)) return -EPROTO;
    int r = map_it(memfd, out_record);
    if (r != 0) return r;
    const struct record *record = *out_record;
    return record->magic == RECORD_MAGIC && record->version == RECORD_VERSION && record->size == sizeof *record ? 0 : -EPROTO;
}
