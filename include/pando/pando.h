// SPDX-License-Identifier: MIT
// All of libpando.
#ifndef PANDO_PANDO_H
#define PANDO_PANDO_H

#include <pando/app.h>
#include <pando/cluster.h>
#include <pando/http.h>
#include <pando/types.h>
#include <pando/worker.h>

#endif
