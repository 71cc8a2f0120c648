// node express_app.js PORT
const express = require('express');

const app = express();

app.get('*', (req, res) => {
  res.type('text').send(`pid ${process.pid}\n`);
});

app.listen(Number(process.argv[2] || 3000));
