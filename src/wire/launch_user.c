// SPDX-License-Identifier: MIT
// USER[:GROUP] as id(1) would understand it: with a user that has an account come its group and supplementary groups.
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "launch_parts.h"
#include "str.h"

static bool launch_parse_id(const char *text, uint32_t *out) {
    long id;
    if (str_parse_number(text, 0, (long)UINT32_MAX - 1, &id)) return false;
    *out = (uint32_t)id;
    return true;
}

static int launch_find_group(const char *text, uint32_t *out_gid, struct pando_error *error) {
    if (launch_parse_id(text, out_gid)) return 0;
    const struct group *group = getgrnam(text);
    if (!group) return error_say(error, EINVAL, "--user: group %s: no such group: give a name from /etc/group or a number", text);
    *out_gid = group->gr_gid;
    return 0;
}

static int launch_find_groups(struct launch *launch, const char *account, struct pando_error *error) {
    gid_t groups[LAUNCH_GROUP_MAX];
    int count = LAUNCH_GROUP_MAX;
    if (!account) {
        groups[0] = launch->gid;
        count = 1;
    } else if (getgrouplist(account, launch->gid, groups, &count) < 0) {
        return error_say(error, EINVAL, "--user: %s is in %d groups: at most %d can be handed to a worker", account, count,
                         LAUNCH_GROUP_MAX);
    }
    free(launch->groups);
    launch->groups = calloc((size_t)count, sizeof *launch->groups);
    if (!launch->groups) return error_set(error, ENOMEM, "--user");
    for (int i = 0; i < count; i++) launch->groups[i] = groups[i];
    launch->group_count = (size_t)count;
    return 0;
}

static int launch_find_user(struct launch *launch, const char *user, const char *group, struct pando_error *error) {
    uint32_t uid = 0;
    bool is_number = launch_parse_id(user, &uid);
    const struct passwd *account = is_number ? getpwuid(uid) : getpwnam(user);
    if (!account && !is_number)
        return error_say(error, EINVAL, "--user: user %s: no such user: give a name from /etc/passwd or a number", user);
    if (!account && !group) return error_say(error, EINVAL, "--user: user %s has no account, hence no group: give %s:GROUP", user, user);
    launch->uid = account ? account->pw_uid : uid;
    launch->gid = account ? account->pw_gid : 0;
    scoped_str name = account ? strdup(account->pw_name) : NULL;  // the next look-up may overwrite it
    int err = group ? launch_find_group(group, &launch->gid, error) : 0;
    return err ? err : launch_find_groups(launch, name, error);
}

int launch_set_user(struct launch *launch, const char *text, struct pando_error *error) {
    scoped_str user = strdup(text);
    if (!user) return error_set(error, ENOMEM, "--user");
    char *group = strchr(user, ':');
    if (group) *group++ = '\0';
    if (!*user || (group && !*group)) return error_say(error, EINVAL, "--user %s: give USER or USER:GROUP", text);
    int err = launch_find_user(launch, user, group, error);
    if (err) return err;
    str_free(&launch->user);
    launch->user = strdup(text);
    launch->has_user = true;
    return launch->user ? 0 : error_set(error, ENOMEM, "--user");
}
