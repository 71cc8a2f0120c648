// Node's own server, nothing else. node node_http.js PORT
const http = require('http');

const server = http.createServer((req, res) => {
  res.end(`pid ${process.pid}\n`);
});

server.listen(Number(process.argv[2] || 3000));
