// Node's http server; /spin keeps its process busy for 300 ms. PORT from the environment. With CLUSTER=1: under Node's own cluster.
const http = require('node:http');
const cluster = require('node:cluster');

function serve() {
  http.createServer((request, response) => {
    if (request.url === '/spin') for (const end = Date.now() + 300; Date.now() < end;);
    response.end('ok\n');
  }).listen({ port: Number(process.env.PORT), reusePort: process.env.REUSEPORT === '1' });
}

if (process.env.CLUSTER === '1' && cluster.isPrimary) {
  const workers = Number(process.env.WORKERS);
  let listening = 0;
  cluster.on('listening', () => { if (++listening === workers) console.log('ready'); });
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  serve();
}
