// tls.js PORT KEY CERT
const fs = require('fs');
const https = require('https');

const [port, key, cert] = process.argv.slice(2);
https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, (req, res) => res.end(`pid ${process.pid}\n`))
  .listen(Number(port));
