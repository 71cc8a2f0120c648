// Sends what it is asked to send, and shows what it hears: gossip.js PORT
const http = require('http');
const net = require('net');

const heard = [];
process.on('message', (message) => heard.push(message));
http.createServer((req, res) => {
  const url = new URL(req.url, 'http://x');
  if (url.pathname === '/send') process.send(JSON.parse(url.searchParams.get('json')));
  if (url.pathname === '/handle') {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const socket = net.connect(server.address().port, '127.0.0.1', () => process.send({ with: 'socket' }, socket, () => process.send('after')));
    });
  }
  res.end(`pid ${process.pid}\nheard ${JSON.stringify(heard)}\n`);
}).listen(Number(process.argv[2]));
