// SPDX-License-Identifier: MIT
#include "table.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TABLE_CELL_SIZE 512

void table_deinit(struct table *table) { buf_deinit(&table->text); }

// Characters, not bytes, so that names beyond ASCII do not bend the columns.
static size_t table_width(const char *cell) {
    size_t width = 0;
    for (; *cell; cell++) width += (*cell & 0xc0) != 0x80;
    return width;
}

void table_add(struct table *table, const char *cell) {
    if (!*cell) cell = "-";
    size_t column = table->cell_count++ % table->columns;
    size_t width = table_width(cell);
    if (width > table->width[column]) table->width[column] = width;
    size_t start = table->text.len;
    buf_append(&table->text, cell, strlen(cell) + 1);
    for (size_t i = start; i + 1 < table->text.len; i++)
        if ((unsigned char)table->text.data[i] < 0x20 || table->text.data[i] == 0x7f) table->text.data[i] = '?';
}

void table_addf(struct table *table, const char *format, ...) {
    char cell[TABLE_CELL_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(cell, sizeof cell, format, args);
    va_end(args);
    table_add(table, cell);
}

void table_print(const struct table *table) {
    if (table->text.failed) return;
    const char *cell = table->text.data;
    for (size_t i = 0; i < table->cell_count; i++, cell += strlen(cell) + 1) {
        size_t column = i % table->columns;
        bool is_last = column + 1 == table->columns;
        int padding = is_last ? 0 : (int)(table->width[column] - table_width(cell)) + 2;
        printf("%s%*s%s", cell, padding, "", is_last ? "\n" : "");
    }
}
