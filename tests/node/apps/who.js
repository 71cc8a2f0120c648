// Says who serves, and does to itself what the path says: who.js PORT|PATH [HOST]
const cluster = require('cluster');
const http = require('http');

const [where, host] = process.argv.slice(2);
const events = [];

const facts = () => ({
  pid: process.pid,
  isWorker: cluster.isWorker,
  isPrimary: cluster.isPrimary,
  id: cluster.worker ? cluster.worker.id : 0,
  connected: cluster.worker ? cluster.worker.isConnected() : false,
  address: JSON.stringify(server.address()),
  channel: String(process.env.NODE_CHANNEL_FD),
  unique: String(process.env.NODE_UNIQUE_ID),
  instance: process.env.NODE_APP_INSTANCE,
  send: typeof process.send,
});

const does = {
  '/disconnect': () => cluster.worker.disconnect(),
  '/crash': () => { throw new Error('asked to crash'); },
  '/spin': () => { for (;;); },
};

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://x');
  const wait = Number(url.searchParams.get('wait') || 0);
  if (wait) console.log('taken');
  setTimeout(() => {
    res.end(Object.entries(facts()).map(([key, value]) => `${key} ${value}\n`).join(''));
    if (does[url.pathname]) res.on('close', () => setImmediate(does[url.pathname]));
  }, wait);
});

if (process.env.MAX_CONNECTIONS) server.maxConnections = Number(process.env.MAX_CONNECTIONS);
if (cluster.worker) {
  cluster.worker.on('disconnect', () => console.log(`disconnect event, voluntary ${cluster.worker.exitedAfterDisconnect}`));
}
server.on('error', (error) => { console.log(`error ${error.code} ${error.syscall}`); process.exit(3); });
const args = isNaN(where) ? [where] : [Number(where), ...(host ? [host] : [])];
server.listen(...args, () => console.log(`listening ${JSON.stringify(server.address())}`));
