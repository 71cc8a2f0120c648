// SPDX-License-Identifier: MIT
// What came of it: a table and a verdict for people, or one JSON object.
#pragma once

#include "load.h"
#include "torture.h"
#include "verdict.h"

// How it ended, in the JSON's "verdict" and in the exit code.
enum outcome { OUTCOME_KEPT, OUTCOME_BROKEN, OUTCOME_NOT_JUDGED, OUTCOME_INTERRUPTED };

void report_print(const struct torture *torture, const struct load_result *load, const struct verdict *verdict, enum outcome outcome);
void report_print_json(const struct torture *torture, const struct load_result *load, const struct verdict *verdict, enum outcome outcome);
// When it never came to a load: `why` it could not be judged.
void report_print_not_judged(const struct torture *torture, const char *why);
