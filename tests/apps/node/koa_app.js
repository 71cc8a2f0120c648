// node koa_app.js PORT
const Koa = require('koa');

const app = new Koa();

app.use(ctx => {
  ctx.body = `pid ${process.pid}\n`;
});

app.listen(Number(process.argv[2] || 3000));
