// SPDX-License-Identifier: MIT
#pragma once

#include <pando/app.h>

pando_app *app_new(void);
