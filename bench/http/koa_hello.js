// SPDX-License-Identifier: MIT
// examples/hello in Koa, for the comparison: router, one middleware, handler.
'use strict'
const modules = require('path').join(__dirname, '../../tests/koa/node_modules/')
const Koa = require(modules + 'koa')
const Router = require(modules + '@koa/router').Router || require(modules + '@koa/router')
const app = new Koa()
const router = new Router()
app.use(async (ctx, next) => { const start = process.hrtime.bigint(); await next(); ctx.set('X-Response-Time', `${(process.hrtime.bigint() - start) / 1000n}us`) })
router.get('/users/:id', ctx => { ctx.body = { id: ctx.params.id } })
app.use(router.routes())
app.use(ctx => { ctx.body = '<h1>Hello World</h1>' })
app.listen(Number(process.argv[2]), '127.0.0.1')
