// SPDX-License-Identifier: MIT
// Read and write buffers of one size, kept hot in a stack. A connection owns one only while something waits in it.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

//   data        start        end        size
//   | consumed  |  waiting   |  room    |
struct block {
    struct block *next;  // block_pool.free
    uint32_t start, end, size;
    char data[];
};

struct block_pool {
    struct block *free;  // owned
    uint32_t block_size, free_count;
};

struct block *block_take(struct block_pool *pool);               // empty; NULL: no memory
void block_give(struct block_pool *pool, struct block **block);  // NULL is fine; sets it to NULL
void block_pool_deinit(struct block_pool *pool);

static inline size_t block_len(const struct block *block) { return block ? block->end - block->start : 0; }
static inline size_t block_room(const struct block *block) { return block->size - block->end; }
// What waits begins at `floor` afterwards, and the room is as large as it can be.
static inline void block_move_down(struct block *block, uint32_t floor) {
    size_t len = block_len(block);
    if (len && block->start != floor) memmove(block->data + floor, block->data + block->start, len);
    block->start = floor;
    block->end = floor + (uint32_t)len;
}
