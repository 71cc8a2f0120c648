// SPDX-License-Identifier: MIT
// The small apps of tests/koa/cases.c in real Koa: the header X-Case chooses one.
'use strict'
const Koa = require('koa')
const Router = require('@koa/router').default || require('@koa/router').Router || require('@koa/router')
const { Readable } = require('stream')

const stream = () => Readable.from([Buffer.from('one'), Buffer.from('two')])
const show = (ctx, v) => { ctx.body = '=' + (v === undefined ? 'undefined' : v) }

const cases = {
  nothing () {},
  text (ctx) { ctx.body = 'hello' },
  html (ctx) { ctx.body = '<p>hello</p>' },
  html_blank (ctx) { ctx.body = '  \n\t<p>hello</p>' },
  text_later_html (ctx) { ctx.body = 'a <p>' },
  empty_text (ctx) { ctx.body = '' },
  utf8 (ctx) { ctx.body = 'grüß €' },
  buffer (ctx) { ctx.body = Buffer.from([0, 1, 255]) },
  json_object (ctx) { ctx.body = { a: 1, list: ['x', true, null] } },
  json_array (ctx) { ctx.body = [1, 2] },
  json_typed (ctx) { ctx.type = 'application/vnd.api+json'; ctx.body = { a: 1 } },
  json_over_text_type (ctx) { ctx.type = 'text'; ctx.body = { a: 1 } },
  text_then_json (ctx) { ctx.body = 'longer than the json'; ctx.body = { a: 1 } },
  json_then_text (ctx) { ctx.body = { a: 1 }; ctx.body = 'text' },
  null_body (ctx) { ctx.body = null },
  null_then_200 (ctx) { ctx.body = null; ctx.status = 200 },
  null_304 (ctx) { ctx.status = 304; ctx.body = null },
  null_json (ctx) { ctx.type = 'json'; ctx.body = null },
  text_then_null (ctx) { ctx.body = 'x'; ctx.body = null },
  status_only_200 (ctx) { ctx.status = 200 },
  status_only_201 (ctx) { ctx.status = 201 },
  status_only_400 (ctx) { ctx.status = 400 },
  status_only_418 (ctx) { ctx.status = 418 },
  status_only_503 (ctx) { ctx.status = 503 },
  status_204 (ctx) { ctx.status = 204 },
  status_205 (ctx) { ctx.status = 205 },
  status_304 (ctx) { ctx.status = 304 },
  text_then_204 (ctx) { ctx.body = 'x'; ctx.status = 204 },
  status_then_text (ctx) { ctx.status = 201; ctx.body = 'made' },
  text_then_status (ctx) { ctx.body = 'made'; ctx.status = 202 },
  status_unknown_text (ctx) { ctx.status = 299; ctx.body = 'x' },
  message (ctx) { ctx.status = 200; ctx.message = 'Fine'; ctx.body = 'x' },
  message_only (ctx) { ctx.status = 200; ctx.message = 'Fine' },
  type_first (ctx) { ctx.type = 'css'; ctx.body = 'a{}' },
  type_after (ctx) { ctx.body = '<p>'; ctx.type = 'text' },
  type_png (ctx) { ctx.type = '.png'; ctx.body = Buffer.from('x') },
  type_js (ctx) { ctx.type = 'js'; ctx.body = '1' },
  type_full (ctx) { ctx.type = 'text/plain'; ctx.body = '1' },
  type_charset (ctx) { ctx.type = 'text/plain; charset=latin1'; ctx.body = '1' },
  type_unknown (ctx) { ctx.type = 'html'; ctx.type = 'nosuchtype'; ctx.status = 200 },
  type_json_text (ctx) { ctx.type = 'json'; ctx.body = '{}' },
  type_get (ctx) { ctx.type = 'html'; ctx.body = ctx.response.type },
  length_get (ctx) { ctx.body = '12345'; ctx.set('X-Length', String(ctx.response.length)) },
  stream (ctx) { ctx.body = stream() },
  stream_typed (ctx) { ctx.type = 'text'; ctx.body = stream() },
  stream_length (ctx) { ctx.length = 6; ctx.body = stream() },
  text_then_stream (ctx) { ctx.body = '0123456789'; ctx.body = stream() },
  stream_then_text (ctx) { ctx.body = stream(); ctx.body = 'text' },
  set (ctx) { ctx.set('X-A', '1'); ctx.set('x-a', '2'); ctx.body = 'x' },
  append (ctx) { ctx.append('X-A', '1'); ctx.append('X-A', '2'); ctx.body = 'x' },
  removed (ctx) { ctx.set('X-A', '1'); ctx.remove('x-A'); ctx.body = 'x' },
  vary (ctx) { ctx.vary('Accept'); ctx.vary('accept'); ctx.vary('Origin'); ctx.body = 'x' },
  vary_star (ctx) { ctx.vary('Accept'); ctx.vary('*'); ctx.vary('Origin'); ctx.body = 'x' },
  etag (ctx) { ctx.etag = 'abc'; ctx.body = 'x' },
  etag_weak (ctx) { ctx.etag = 'W/"abc"'; ctx.body = 'x' },
  etag_quoted (ctx) { ctx.etag = '"abc"'; ctx.body = 'x' },
  last_modified (ctx) { ctx.lastModified = new Date(1400000000e3); ctx.body = 'x' },
  fresh (ctx) { ctx.etag = 'abc'; ctx.lastModified = new Date(1400000000e3); ctx.status = 200; ctx.body = ctx.fresh ? 'fresh' : 'stale' },
  redirect (ctx) { ctx.redirect('/login') },
  redirect_abs (ctx) { ctx.redirect('HTTP://Example.com') },
  redirect_query (ctx) { ctx.redirect('http://example.com/a b?x=<1>&y=%20') },
  redirect_utf8 (ctx) { ctx.redirect('/grüß') },
  redirect_301 (ctx) { ctx.status = 301; ctx.redirect('/x') },
  redirect_307 (ctx) { ctx.status = 307; ctx.redirect('/x') },
  redirect_201 (ctx) { ctx.status = 201; ctx.redirect('/x') },
  redirect_typed (ctx) { ctx.type = 'json'; ctx.redirect('/x') },
  back (ctx) { ctx.back() },
  back_alt (ctx) { ctx.back('/alt') },
  attachment (ctx) { ctx.attachment(); ctx.body = 'x' },
  attachment_name (ctx) { ctx.attachment('path/to/tobi.png'); ctx.body = 'x' },
  attachment_space (ctx) { ctx.attachment('the plans.pdf'); ctx.body = 'x' },
  attachment_quote (ctx) { ctx.attachment('the "plans".txt'); ctx.body = 'x' },
  attachment_utf8 (ctx) { ctx.attachment('€ rates.txt'); ctx.body = 'x' },
  attachment_inline (ctx) { ctx.attachment('a.html', { type: 'inline' }); ctx.body = 'x' },
  r_path (ctx) { show(ctx, ctx.path) },
  r_url (ctx) { show(ctx, ctx.url) },
  r_querystring (ctx) { show(ctx, ctx.querystring) },
  r_search (ctx) { show(ctx, ctx.search) },
  r_query (ctx) { show(ctx, [].concat(ctx.query.a)[0]) },
  r_query_two (ctx) { show(ctx, ctx.query.a.join('|')) },
  r_set_path (ctx) { ctx.path = '/new'; ctx.body = `${ctx.url} ${ctx.originalUrl}` },
  r_set_query (ctx) { ctx.querystring = 'z=1'; ctx.body = `${ctx.url} ${ctx.query.z}` },
  r_host (ctx) { show(ctx, ctx.host) },
  r_hostname (ctx) { show(ctx, ctx.hostname) },
  r_protocol (ctx) { show(ctx, ctx.protocol) },
  r_origin (ctx) { show(ctx, ctx.origin) },
  r_href (ctx) { show(ctx, ctx.href) },
  r_ip (ctx) { show(ctx, ctx.ip) },
  r_ips (ctx) { show(ctx, ctx.ips.map(x => x + ',').join('')) },
  r_subdomains (ctx) { show(ctx, ctx.subdomains.map(x => x + ',').join('')) },
  r_type (ctx) { show(ctx, ctx.request.type) },
  r_charset (ctx) { show(ctx, ctx.request.charset) },
  r_length (ctx) { ctx.body = '=' + (ctx.request.length === undefined ? -1 : ctx.request.length) },
  r_get (ctx) { show(ctx, ctx.get('x-thing')) },
  r_referrer (ctx) { show(ctx, ctx.get('Referrer')) },
  r_idempotent (ctx) { show(ctx, ctx.idempotent) },
  r_method (ctx) { show(ctx, ctx.method) },
  accepts_html_json (ctx) { show(ctx, ctx.accepts('html', 'json')) },
  accepts_json_html (ctx) { show(ctx, ctx.accepts('json', 'html')) },
  accepts_png (ctx) { show(ctx, ctx.accepts('png', 'image/webp')) },
  accepts_full (ctx) { show(ctx, ctx.accepts('text/plain', 'application/xml')) },
  accepts_enc (ctx) { show(ctx, ctx.acceptsEncodings('gzip', 'deflate', 'identity')) },
  accepts_enc_gz (ctx) { show(ctx, ctx.acceptsEncodings('gzip')) },
  accepts_char (ctx) { show(ctx, ctx.acceptsCharsets('utf-8', 'iso-8859-1')) },
  accepts_lang (ctx) { show(ctx, ctx.acceptsLanguages('en', 'de', 'fr')) },
  is_json (ctx) { show(ctx, ctx.is('json')) },
  is_text (ctx) { show(ctx, ctx.is('text/*')) },
  is_many (ctx) { show(ctx, ctx.is('urlencoded', 'multipart', 'json')) },
  is_suffix (ctx) { show(ctx, ctx.is('+json')) },
  cookie_get (ctx) { show(ctx, ctx.cookies.get('a')) },
  cookie_set (ctx) { ctx.cookies.set('a', 'b'); ctx.body = 'x' },
  cookie_attributes (ctx) { ctx.cookies.set('a', 'b', { path: '/p', domain: 'example.com', sameSite: 'lax', httpOnly: false, priority: 'high', partitioned: true }); ctx.body = 'x' },
  cookie_expire (ctx) { ctx.cookies.set('a', null); ctx.body = 'x' },
  cookie_two (ctx) { ctx.cookies.set('a', '1'); ctx.cookies.set('b', '2'); ctx.body = 'x' },
  cookie_overwrite (ctx) { ctx.cookies.set('a', '1'); ctx.cookies.set('a', '2', { overwrite: true }); ctx.body = 'x' },
  throw_400 (ctx) { ctx.set('X-A', '1'); ctx.throw(400, 'name required') },
  throw_401 (ctx) { ctx.throw(401) },
  throw_404 (ctx) { ctx.throw(404, 'no such thing') },
  throw_500 (ctx) { ctx.throw(500, 'secret') },
  throw_503 (ctx) { ctx.throw(503, 'secret') },
  throw_headers (ctx) { ctx.throw(401, 'who', { headers: { 'WWW-Authenticate': 'Basic' } }) },
  throw_after_body (ctx) { ctx.body = '<p>'; ctx.set('X-A', '1'); ctx.throw(409, 'conflict') },
  assertion (ctx) { ctx.assert(ctx.query.user, 401, 'User not found'); ctx.body = 'ok' },
  async next_404 (ctx, next) { await next(); ctx.set('X-Status', String(ctx.status)) }
}
const inner = ctx => { ctx.body = `${ctx.body || ''}2` }
const catchIt = async (ctx, next) => { try { await next() } catch (e) { ctx.status = 418; ctx.body = 'caught ' + e.message } }
const pairs = {
  onion: [async (ctx, next) => { await next(); ctx.body = `1${ctx.body}3` }, inner],
  catch_throw: [catchIt, cases.throw_400],
  catch_none: [catchIt, cases.text]
}

const proxy = process.argv[3] === 'proxy'
const app = new Koa({ proxy, maxIpsCount: proxy ? 2 : 0 })
app.silent = true
if (process.argv[4]) app.use(require('koa-static')(process.argv[4]))
app.use((ctx, next) => {
  const name = ctx.get('X-Case')
  if (pairs[name]) return pairs[name][0](ctx, () => pairs[name][1](ctx))
  if (cases[name]) return cases[name](ctx, () => {})
  return next()
})

const showParams = name => ctx => { ctx.body = `${name} ${ctx.params.id || '-'}|${ctx.params.rest || '-'}` }
const mark = name => (ctx, next) => { ctx.append('X-Mark', name); return next() }
const router = new Router({ prefix: '/router' })
router.use(mark('all'))
router.use('/users', mark('users'))
router.get('/users/:id', mark('first'))
router.get('/users/:id', showParams('user'))
router.get('/', showParams('root'))
router.post('/users', showParams('create'))
router.put('/users/:id', showParams('put'))
router.delete('/users/:id', showParams('delete'))
router.get('/files/*rest', showParams('files'))
router.get('/opt{/:id}', showParams('opt'))
router.get('/dash/:id-x', showParams('dash'))
router.get('/static', showParams('static'))
router.all('/any', showParams('any'))
router.redirect('/old', '/router/static')
const nested = new Router()
nested.get('/deep/:rest', showParams('deep'))
router.use('/nest/:id', nested.routes())
app.use(router.routes())
app.use(router.allowedMethods())
app.listen(Number(process.argv[2]), '127.0.0.1')
