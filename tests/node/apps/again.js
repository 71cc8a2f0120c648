// Listens, is told to close and to listen again by SIGUSR2, counts on which turn it is: again.js PORT
const http = require('http');

const port = Number(process.argv[2]);
let turn = 0;
let server;
const open = () => {
  turn++;
  server = http.createServer((req, res) => { res.setHeader('connection', 'close'); res.end(`pid ${process.pid}\nturn ${turn}\n`); });
  server.listen(port, () => console.log(`open ${turn}`));
};
process.on('SIGUSR2', () => {
  if (server.listening) server.close(() => console.log(`closed ${turn}`));
  else open();
});
open();
