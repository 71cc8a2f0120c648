// Two servers on ports that the system chooses; closes the second and opens it again, then tells both ports.
const net = require('net');

const listen = () => new Promise((resolve) => {
  const server = net.createServer((socket) => socket.end(`${process.pid}\n`));
  server.listen(0, '127.0.0.1', () => resolve(server));
});

(async () => {
  const first = await listen();
  const second = await listen();
  process.send({ first: first.address().port, second: second.address().port });
})();
