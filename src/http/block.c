// SPDX-License-Identifier: MIT
#include "block.h"

#include <stdlib.h>

#include "http_limits.h"

struct block *block_take(struct block_pool *pool) {
    struct block *block = pool->free;
    if (block) {
        pool->free = block->next;
        pool->free_count--;
    } else if (!(block = malloc(sizeof *block + pool->block_size))) {
        return NULL;
    }
    block->next = NULL;
    block->start = block->end = 0;
    block->size = pool->block_size;
    return block;
}

void block_give(struct block_pool *pool, struct block **at) {
    struct block *block = *at;
    *at = NULL;
    if (!block) return;
    if (pool->free_count == LIMIT_BLOCKS_IDLE) {
        free(block);
        return;
    }
    block->next = pool->free;
    pool->free = block;
    pool->free_count++;
}

void block_pool_deinit(struct block_pool *pool) {
    while (pool->free) {
        struct block *block = pool->free;
        pool->free = block->next;
        free(block);
    }
    pool->free_count = 0;
}
