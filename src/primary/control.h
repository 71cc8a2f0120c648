// SPDX-License-Identifier: MIT
// The control socket: newline-delimited JSON, one request one answer (docs/control.md).
#pragma once

#include <stddef.h>

struct primary;
struct control;

struct control *control_open(struct primary *primary, int listener_take);  // NULL when it cannot be served
void control_on_changed(struct control *control);  // answers those whose wish has come true
void control_follow(void *control, const char *line, size_t len);  // one line of output, for who follows the log
void control_tell_message(struct control *control, const char *line, size_t len);  // one object, for who follows the messages
// Who waits for an upgrade is answered by the primary that comes after it: the keeper holds the connections meanwhile.
void control_hold_upgraders(struct control *control);
void control_drop_upgraders(struct control *control);
void control_adopt_upgrader(struct control *control, int fd_take);
// The instance is over. Who asked for the end is answered, and hears the connection close when the last process has gone.
void control_finish(struct control *control, const char *why);
void control_progress(struct control *control, const char *line);  // of a roll-out, for who asked for it
