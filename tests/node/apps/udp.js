// Answers datagrams with its pid: udp.js PORT
const dgram = require('dgram');

const socket = dgram.createSocket('udp4');
socket.on('message', (message, from) => socket.send(`pid ${process.pid}\n`, from.port, from.address));
socket.bind(Number(process.argv[2]), '127.0.0.1', () => console.log('bound', socket.address().port));
