// Finishes on SIGTERM as Node's documentation advises: no new connections, the running requests to their end, idle connections
// closed. node cooperative.js PORT
const http = require('http');

let leaving = false;
const server = http.createServer((req, res) => {
  if (leaving) res.setHeader('Connection', 'close');
  res.end(`pid ${process.pid}\n`);
});

server.listen(Number(process.argv[2] || 3000));
process.on('SIGTERM', () => {
  leaving = true;
  server.close();
});
