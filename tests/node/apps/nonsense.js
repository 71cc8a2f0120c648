// Serves, and writes straight to its channel what no Node would: nonsense.js PORT
const cluster = require('cluster');
const fs = require('fs');
const http = require('http');

const CHANNEL = 3;
const raw = (text) => { for (let rest = Buffer.from(text); rest.length;) {
  try { rest = rest.subarray(fs.writeSync(CHANNEL, rest)); } catch (error) { if (error.code !== 'EAGAIN') throw error; }
} };

const tricks = {
  '/half': () => raw('{"half":'),
  '/rest': () => raw('"rest"}\n'),
  '/bogus': () => raw('{"cmd":"NODE_BOGUS"}\n{"cmd":"NODE_CLUSTER","act":"bogus","seq":1}\n{"cmd":"NODE_CLUSTER"}\n{"cmd":"NODE_"}\n{"cmd":1}\n'),
  '/garbage': () => raw('garbage\n\n{]\n\x00\x01\xff\n'),
  '/handle': () => raw('{"cmd":"NODE_HANDLE","type":"net.Native","msg":"no descriptor"}\n'),
  '/long': () => raw(`"${'x'.repeat(3 << 20)}"\n`),
  '/longhandle': () => raw(`{"cmd":"NODE_HANDLE","type":"net.Native","msg":"${'x'.repeat(100 << 10)}"}\n`),
  '/lies': () => raw('{"cmd":"NODE_CLUSTER","act":"close","key":"63"}\n{"cmd":"NODE_CLUSTER","act":"close","key":"-1"}\n' +
    '{"cmd":"NODE_CLUSTER","act":"close","key":null}\n{"cmd":"NODE_CLUSTER","ack":0,"accepted":true,"seq":9}\n' +
    '{"cmd":"NODE_CLUSTER","ack":1e300,"accepted":false}\n{"cmd":"NODE_CLUSTER","act":"listening","port":1,"addressType":4}\n' +
    '{"cmd":"NODE_CLUSTER","act":"queryServer","addressType":"udp9","port":99999,"seq":5}\n' +
    '{"cmd":"NODE_CLUSTER","act":"queryServer","addressType":-1,"seq":6}\n' +
    '{"cmd":"NODE_CLUSTER","act":"queryServer","fd":2,"seq":7}\n'),
  '/flood': () => { const flood = () => { for (let i = 0; i < 200; i++) process.send({ flood: i, filler: 'y'.repeat(1000) }); setImmediate(flood); }; flood(); },
};

http.createServer((req, res) => {
  if (tricks[req.url]) tricks[req.url]();
  res.end(`pid ${process.pid}\nid ${cluster.worker && cluster.worker.id}\n`);
}).listen(Number(process.argv[2]));
process.on('message', (message) => process.send({ echo: message }));
