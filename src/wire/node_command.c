// SPDX-License-Identifier: MIT
#include "node_command.h"

#include <stddef.h>
#include <string.h>

#include "launch_parts.h"

// All of them programs for Node that start another one: what Node sets up for its children reaches them, and nobody else.
static const char wrappers[] = " npm npx yarn yarnpkg pnpm pnpx bunx corepack nodemon tsx npm-cli.js npx-cli.js yarn.js pnpm.cjs ";
static const char watching[] = " --watch --watch-path --run --test ";
static const char shells[] = " sh bash dash zsh ash ";

static bool is_one_of(const char *list, const char *word, size_t len) {
    for (const char *at = list; len > 0 && (at = strchr(at, ' ')) != NULL && at[1] != '\0'; at++)
        if (strncmp(at + 1, word, len) == 0 && at[1 + len] == ' ') return true;
    return false;
}

static bool base_is(const char *list, const char *path, size_t len) {
    size_t start = len;
    while (start > 0 && path[start - 1] != '/') start--;
    return is_one_of(list, path + start, len - start);
}

// "cd app && npm start": any word will do, for who writes npm into a command and does not mean it?
static bool names_wrapper(const char *text) {
    static const char between[] = " \t\n;&|()";
    for (text += strspn(text, between); *text != '\0'; text += strspn(text, between)) {
        size_t len = strcspn(text, between);
        if (base_is(wrappers, text, len)) return true;
        text += len;
    }
    return false;
}

static bool runs_shell_text(char *const *argv) {
    if (!base_is(shells, argv[0], strlen(argv[0]))) return false;
    for (; argv[1] != NULL; argv++)
        if (argv[0][0] == '-' && strchr(argv[0], 'c') != NULL && names_wrapper(argv[1])) return true;
    return false;
}

static bool has_watching_option(char *const *argv, const char *script) {
    for (argv++; *argv != NULL && *argv != script; argv++)
        if (is_one_of(watching, *argv, strcspn(*argv, "="))) return true;
    return false;
}

enum node_command node_command_kind(char *const *argv) {
    if (base_is(wrappers, argv[0], strlen(argv[0])) || runs_shell_text(argv)) return NODE_COMMAND_WRAPPER;
    if (!base_is(" node nodejs ", argv[0], strlen(argv[0]))) return NODE_COMMAND_OTHER;
    const char *script = launch_command_script(argv);
    if (has_watching_option(argv, script)) return NODE_COMMAND_WRAPPER;
    if (script == NULL) return NODE_COMMAND_NO_SCRIPT;
    return base_is(wrappers, script, strlen(script)) ? NODE_COMMAND_WRAPPER : NODE_COMMAND_SCRIPT;
}

const char *node_command_refusal(char *const *argv) {
    switch (node_command_kind(argv)) {
        case NODE_COMMAND_WRAPPER:
            return "it is itself a Node program that starts another one, and keeps the cluster's channel to itself: give the command that "
                   "it runs (for npm: what package.json has under \"scripts\"), such as `node server.js`";
        case NODE_COMMAND_NO_SCRIPT: return "Node makes no worker of a program without a script file: put it into one";
        case NODE_COMMAND_OTHER:
        case NODE_COMMAND_SCRIPT: break;
    }
    return NULL;
}
