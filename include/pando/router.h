// SPDX-License-Identifier: MIT
// Routes. Patterns: "/users/:id", "/files/*rest" (one or more segments), "/a{/:b}" (optional piece). Included by app.h.
// HEAD is answered by GET routes. In the order they were added; the first that matches and whose method fits wins, and
// pando_next goes on to later matches and then to what follows the router.
#ifndef PANDO_ROUTER_H
#define PANDO_ROUTER_H

struct pando_router_options {
    const char *prefix;  // may have parameters
    const char *host;    // only for this Host
    bool sensitive;      // case matters
    bool strict;         // "/a/" is not "/a"
    bool exclusive;      // only the first match, as if nobody called pando_next
    bool no_methods;     // no OPTIONS, 405 and 501 of its own
};
PANDO_API pando_router *pando_router_new(const struct pando_router_options *options);
PANDO_API void pando_router_free(pando_router *router);  // only if it was never given to an app or router
// The app or outer router owns it from then on.
PANDO_API void pando_use_router_take(pando_app *app, pando_router *router);
PANDO_API void pando_router_nest_take(pando_router *outer, const char *prefix, pando_router *inner);

// method "*": every one. A route's name for pando_route_url follows by pando_route_name.
#define pando_route(router, method, pattern, fn, arg) pando_route_named(router, method, pattern, #fn, fn, arg)
PANDO_API void pando_router_use_named(pando_router *router, const char *pattern, const char *name, pando_handler fn,
                                      void *arg);  // NULL: all; runs only if a route matched
#define pando_router_use(router, pattern, fn, arg) pando_router_use_named(router, pattern, #fn, fn, arg)
PANDO_API void pando_router_param_named(pando_router *router, const char *param, const char *name, pando_handler fn,
                                        void *arg);  // once a request, before the route
#define pando_router_param(router, param, fn, arg) pando_router_param_named(router, param, #fn, fn, arg)
PANDO_API void pando_router_redirect(pando_router *router, const char *from, const char *to, int status);  // 0: 301
PANDO_API void pando_route_name(pando_router *router, const char *name);                                   // of the route added last

PANDO_API const char *pando_param(const pando_ctx *ctx, const char *name);  // decoded; NULL: none
PANDO_API const char *pando_route_pattern(const pando_ctx *ctx);            // the matched route's, for metrics; NULL: none
// "/users/7?page=2": pairs name, value, ..., NULL; those that are no parameter become the query. NULL: no such route, or one is missing.
PANDO_API const char *pando_route_url(pando_ctx *ctx, pando_router *router, const char *name, ...) __attribute__((sentinel));

#endif
