// SPDX-License-Identifier: MIT
// What Pando tells whoever started it, in the language of sd_notify(3): ready, reloading, stopping, a line of status, signs of
// life for its watchdog, and the listening sockets for its store. Without NOTIFY_SOCKET all of it does nothing.
#pragma once

struct primary;
struct supervisor;

// NULL without a supervisor, or after a complaint. Says at once again what the record says, as this may be a successor.
struct supervisor *supervisor_open(struct primary *primary);

// Something has changed: the instance is up, stops, has more or fewer workers, other sockets. Cheap when nothing has.
void supervisor_update(struct supervisor *supervisor);

// A reload begins: RELOADING=1. It ends, with the new version or still the old one: READY=1. Each may be called again.
void supervisor_reloading(struct supervisor *supervisor);
void supervisor_ready(struct supervisor *supervisor);

// The end; `why` NULL = as asked.
void supervisor_finished(struct supervisor *supervisor, const char *why);
