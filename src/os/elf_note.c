// SPDX-License-Identifier: MIT
// The file is the user's, or anybody's: every number in it is checked before it is used.
#include "elf_note.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <unistd.h>

#include "fd.h"

enum { PROGRAM_HEADERS_MAX = 64, NOTES_BYTES_MAX = 16 * 1024, NOTE_ALIGN = 4 };

static const unsigned char own_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;

static size_t aligned(size_t len) { return (len + NOTE_ALIGN - 1) & ~(size_t)(NOTE_ALIGN - 1); }

// One segment of notes: { namesz, descsz, type } name desc, each padded to four bytes.
static bool notes_have(const char *notes, size_t len, const char *owner, uint32_t type) {
    size_t owner_size = strlen(owner) + 1;
    while (len >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, notes, sizeof note);
        size_t left = len - sizeof note;
        if (note.n_namesz > left || aligned(note.n_namesz) > left || note.n_descsz > left - aligned(note.n_namesz)) return false;
        const char *name = notes + sizeof note;
        if (note.n_type == type && note.n_namesz == owner_size && memcmp(name, owner, owner_size) == 0) return true;
        size_t whole = sizeof note + aligned(note.n_namesz) + aligned(note.n_descsz);
        if (whole > len) return false;
        notes += whole;
        len -= whole;
    }
    return false;
}

static bool segment_has(int fd, const ElfW(Phdr) * segment, const char *owner, uint32_t type) {
    char notes[NOTES_BYTES_MAX];
    if (segment->p_type != PT_NOTE || segment->p_filesz > sizeof notes) return false;
    ssize_t n = pread(fd, notes, segment->p_filesz, (off_t)segment->p_offset);
    return n == (ssize_t)segment->p_filesz && notes_have(notes, (size_t)n, owner, type);
}

static bool is_of_this_machine(const ElfW(Ehdr) * header) {
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == own_class &&
           header->e_phentsize == sizeof(ElfW(Phdr)) && header->e_phnum <= PROGRAM_HEADERS_MAX;
}

bool elf_note_has(const char *path, const char *owner, uint32_t type) {
    ElfW(Ehdr) header;
    ElfW(Phdr) segment[PROGRAM_HEADERS_MAX];
    scoped_fd fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || pread(fd, &header, sizeof header, 0) != sizeof header || !is_of_this_machine(&header)) return false;
    size_t size = header.e_phnum * sizeof *segment;
    if (pread(fd, segment, size, (off_t)header.e_phoff) != (ssize_t)size) return false;
    for (int i = 0; i < header.e_phnum; i++)
        if (segment_has(fd, &segment[i], owner, type)) return true;
    return false;
}
