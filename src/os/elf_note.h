// SPDX-License-Identifier: MIT
// Notes that an executable carries (elf(5), PT_NOTE): what a program says about itself before it runs.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define ELF_NOTE_PANDO "Pando"
#define ELF_NOTE_UNFILTERED 1  // PANDO_WORKER_UNFILTERED: no seccomp filter, its sockets come over the channel

// Does the executable at `path` carry that note? False for what cannot be read and is no ELF file of this machine's kind.
bool elf_note_has(const char *path, const char *owner, uint32_t type);
