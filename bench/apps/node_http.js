// A Node server as everybody writes it: it knows nothing of Pando or of Node's cluster.
const http = require('node:http');

http.createServer((request, response) => response.end('hello\n')).listen(process.env.PORT || 3000);
