// PM2's conventions: "ready" when READY_FILE is there, a clean end at the message "shutdown": pm2.js PORT READY_FILE
const fs = require('fs');
const http = require('http');

const [port, file] = process.argv.slice(2);
const server = http.createServer((req, res) => res.end(`pid ${process.pid}\ninstance ${process.env.NODE_APP_INSTANCE}\n`));
server.listen(Number(port), () => {
  const look = setInterval(() => {
    if (!fs.existsSync(file)) return;
    clearInterval(look);
    process.send('ready');
  }, 20);
});
process.on('message', (message) => {
  if (message !== 'shutdown') return;
  console.log('shutdown message');
  setTimeout(() => { console.log('cleaned up'); process.exit(0); }, 300);
});
