// The same app under Node's own cluster: the peer. NODE_CLUSTER_SCHED_POLICY=rr|none chooses who accepts, WORKERS how many.
const cluster = require('node:cluster');

if (cluster.isPrimary) {
  const workers = Number(process.env.WORKERS || 2);
  let listening = 0;
  cluster.on('listening', () => {
    if (++listening === workers) console.log('ready');
  });
  cluster.on('exit', () => cluster.fork());
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  require('./node_http.js');
}
