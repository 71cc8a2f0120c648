// SPDX-License-Identifier: MIT
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pando/worker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf_note.h"

PANDO_WORKER_UNFILTERED;

static void the_macro_marks_the_program(void **state) {
    (void)state;
    assert_true(elf_note_has("/proc/self/exe", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED));
    assert_false(elf_note_has("/proc/self/exe", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED + 1));
    assert_false(elf_note_has("/proc/self/exe", "Pandora", ELF_NOTE_UNFILTERED));
    assert_false(elf_note_has("/bin/true", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED));
}

static void what_is_no_program_has_no_note(void **state) {
    (void)state;
    assert_false(elf_note_has("/no/such/file", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED));
    assert_false(elf_note_has("/", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED));
    assert_false(elf_note_has("/dev/null", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED));
    assert_false(elf_note_has("/etc/passwd", ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED));
}

struct file {
    ElfW(Ehdr) header;
    ElfW(Phdr) segment;
    unsigned char notes[64];
};

static bool has_note(const struct file *file, size_t len) {
    char path[] = "/tmp/pando-elf-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, file, len), len);
    close(fd);
    bool has = elf_note_has(path, ELF_NOTE_PANDO, ELF_NOTE_UNFILTERED);
    unlink(path);
    return has;
}

static struct file good_file(void) {
    struct file file = {.header.e_phnum = 1, .header.e_phentsize = sizeof(ElfW(Phdr)), .header.e_phoff = offsetof(struct file, segment)};
    memcpy(file.header.e_ident, ELFMAG, SELFMAG);
    file.header.e_ident[EI_CLASS] = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;
    file.segment.p_type = PT_NOTE;
    file.segment.p_offset = offsetof(struct file, notes);
    file.segment.p_filesz = 24;
    memcpy(file.notes, (uint32_t[]){6, 4, 1}, 12);
    memcpy(file.notes + 12, "Pando", 6);
    return file;
}

static void sizes_in_the_file_are_not_believed(void **state) {
    struct file file = good_file();
    (void)state;
    assert_true(has_note(&file, sizeof file));
    for (size_t len = 0; len < offsetof(struct file, notes) + 24; len++) assert_false(has_note(&file, len));
    const uint32_t wrong[] = {0, 5, 7, 64, 0x7fffffff, 0xfffffffd, 0xffffffff};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        file = good_file();
        memcpy(file.notes, &wrong[i], 4);  // of the name
        assert_false(has_note(&file, sizeof file));
        file = good_file();
        file.segment.p_filesz = wrong[i];
        if (wrong[i] != 64) assert_false(has_note(&file, sizeof file));
        file = good_file();
        file.segment.p_offset = (ElfW(Off)) - 1 - wrong[i];
        assert_false(has_note(&file, sizeof file));
        file = good_file();
        file.header.e_phoff = (ElfW(Off)) - 1 - wrong[i];
        assert_false(has_note(&file, sizeof file));
    }
    file = good_file();
    file.header.e_phnum = 0xffff;
    assert_false(has_note(&file, sizeof file));
    file = good_file();
    memcpy(file.notes + 4, (uint32_t[]){0xffffffff}, 4);  // of the description: the note does not end inside
    assert_false(has_note(&file, sizeof file));
}

static void other_notes_may_stand_before_it(void **state) {
    struct file file = good_file();
    (void)state;
    memmove(file.notes + 20, file.notes, 24);
    memcpy(file.notes, (uint32_t[]){4, 3, 9}, 12);
    memcpy(file.notes + 12, "GNU\0abc", 8);
    file.segment.p_filesz = 44;
    assert_true(has_note(&file, sizeof file));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_macro_marks_the_program),
        cmocka_unit_test(what_is_no_program_has_no_note),
        cmocka_unit_test(sizes_in_the_file_are_not_believed),
        cmocka_unit_test(other_notes_may_stand_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
