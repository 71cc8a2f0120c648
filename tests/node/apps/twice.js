// The same port twice in one worker: twice.js PORT
const net = require('net');

const port = Number(process.argv[2]);
const answer = (socket) => socket.end(`${process.pid}\n`);
net.createServer(answer).listen(port, () => {
  const second = net.createServer(answer);
  second.on('error', (error) => console.log(`second ${error.code}`));
  second.listen(port, () => console.log('second listens'));
});
