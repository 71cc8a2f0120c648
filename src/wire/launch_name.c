// SPDX-License-Identifier: MIT
// A name for an instance that was given none: what a person would call it. `python3 -m uvicorn app:app` is "uvicorn",
// `java -cp lib com.example.Main` is "Main", `npm run start` is "start", `node .` is called like its folder.
#include <string.h>

#include "launch_parts.h"

// Lists are words separated by spaces.
struct launch_interpreter {
    const char *names;     // without version: python3.11 is python
    const char *valued;    // options followed by a value
    const char *code;      // options (or words) followed by the program's text: no script has a name then
    const char *naming;    // options followed by what we look for
    const char *subverbs;  // words to skip
    bool is_class;         // the word may be a class: its last part counts
};

static const struct launch_interpreter launch_interpreters[] = {
    {.names = "node nodejs ts-node tsx",
     .valued = "-r --require --import --loader --experimental-loader -C --conditions",
     .code = "-e --eval -p --print -pe"},
    {.names = "bun", .valued = "-r --preload --cwd --env-file -c --config", .code = "-e --eval", .subverbs = "run x"},
    {.names = "deno", .valued = "-c --config --import-map --cert --lock", .code = "eval", .subverbs = "run serve task"},
    {.names = "python pypy", .valued = "-W -X", .code = "-c", .naming = "-m"},
    {.names = "ruby", .valued = "-I -r -C -E", .code = "-e"},
    {.names = "php", .valued = "-d -c -S -t", .code = "-r", .naming = "-f"},
    {.names = "perl", .valued = "-I", .code = "-e -E"},
    {.names = "java",
     .valued = "-cp -classpath --class-path -p --module-path --add-modules --add-opens --add-exports",
     .naming = "-jar -m --module",
     .is_class = true},
    {.names = "sh bash dash zsh", .valued = "-o -O", .code = "-c"},
    {.names = "lua luajit", .valued = "-l", .code = "-e"},
    {.names = "npm npx yarn pnpm", .valued = "--prefix -w --workspace -C --cwd -p --package", .subverbs = "run run-script exec x dlx"},
};

static bool launch_list_has(const char *list, const char *word, size_t len) {
    while (list && *list) {
        size_t span = strcspn(list, " ");
        if (span == len && memcmp(list, word, len) == 0) return true;
        list += span + (list[span] == ' ');
    }
    return false;
}

// The last component of a path, trailing slashes aside.
static const char *launch_base_name(const char *path, size_t *out_len) {
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') len--;
    size_t start = len;
    while (start > 0 && path[start - 1] != '/') start--;
    *out_len = len - start;
    return path + start;
}

static const struct launch_interpreter *launch_find_interpreter(const char *command) {
    size_t len;
    const char *base = launch_base_name(command, &len);
    while (len > 0 && strchr("0123456789.", base[len - 1])) len--;
    for (size_t i = 0; i < sizeof launch_interpreters / sizeof launch_interpreters[0]; i++)
        if (launch_list_has(launch_interpreters[i].names, base, len)) return &launch_interpreters[i];
    return NULL;
}

// The word of the command line that names the program; NULL when none does.
static const char *launch_find_script(const struct launch_interpreter *interpreter, char *const *words) {
    for (; *words; words++) {
        size_t len = strlen(*words);
        if (launch_list_has(interpreter->code, *words, len)) return NULL;
        if (launch_list_has(interpreter->naming, *words, len)) return words[1];
        if (launch_list_has(interpreter->valued, *words, len)) {
            if (!*++words) return NULL;
        } else if (**words != '-' && !launch_list_has(interpreter->subverbs, *words, len)) {
            return *words;
        }
    }
    return NULL;
}

const char *launch_command_script(char *const *argv) {
    const struct launch_interpreter *interpreter = launch_find_interpreter(argv[0]);
    return interpreter ? launch_find_script(interpreter, argv + 1) : NULL;
}

static bool launch_ends_with(const char *text, size_t len, const char *suffix) {
    size_t suffix_len = strlen(suffix);
    return len > suffix_len && memcmp(text + len - suffix_len, suffix, suffix_len) == 0;
}

static size_t launch_without_extension(const char *text, size_t len) {
    for (size_t at = len; at-- > 1;)
        if (text[at] == '.') return at;
    return len;
}

// Copies what a name may hold; other characters become '-'. False when nothing usable is left.
static bool launch_name_copy(char out[static LAUNCH_NAME_MAX + 1], const char *text, size_t len) {
    while (len > 0 && strchr(".-", *text)) {
        text++;
        len--;
    }
    if (len > LAUNCH_NAME_MAX) len = LAUNCH_NAME_MAX;
    for (size_t i = 0; i < len; i++) {
        out[i] = launch_name_char(text[i]) ? text[i] : '-';
    }
    out[len] = '\0';
    return launch_name_valid(out);
}

// "com.example.Main", "module/com.example.Main" -> "Main"; files keep their rule.
static const char *launch_class_name(const char *base, size_t *len) {
    if (launch_ends_with(base, *len, ".jar") || launch_ends_with(base, *len, ".java")) return base;
    const char *dot = memrchr(base, '.', *len);
    if (!dot) return base;
    *len -= (size_t)(dot + 1 - base);
    return dot + 1;
}

static bool launch_name_from_path(char out[static LAUNCH_NAME_MAX + 1], const char *path, bool is_class) {
    size_t len;
    const char *base = launch_base_name(path, &len);
    if (is_class) base = launch_class_name(base, &len);
    return launch_name_copy(out, base, launch_without_extension(base, len));
}

void launch_name_guess(char *const *argv, const char *directory, char out[static LAUNCH_NAME_MAX + 1]) {
    const struct launch_interpreter *interpreter = launch_find_interpreter(argv[0]);
    const char *script = launch_command_script(argv);
    if (script && launch_name_from_path(out, script, interpreter->is_class)) return;
    if (!script && launch_name_from_path(out, argv[0], false)) return;
    if (directory && launch_name_from_path(out, directory, false)) return;
    strcpy(out, "app");
}
