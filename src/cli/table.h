// SPDX-License-Identifier: MIT
// A table for people: columns as wide as their widest cell, two spaces between them.
#pragma once

#include <stddef.h>

#include "buf.h"

#define TABLE_COLUMN_MAX 8

struct table {
    size_t columns;
    size_t width[TABLE_COLUMN_MAX];
    size_t cell_count;
    struct buf text;  // the cells, each with its NUL
};

#define TABLE(column_count) \
    { .columns = (column_count) }
void table_deinit(struct table *table);
#define scoped_table __attribute__((cleanup(table_deinit))) struct table

// The next cell, row by row; the titles are the first row. Control characters become '?'; an empty cell is "-".
void table_add(struct table *table, const char *cell);
void table_addf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(const struct table *table);
