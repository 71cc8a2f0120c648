<?php
// php -S 127.0.0.1:PORT router.php
header('Content-Type: text/plain');
echo 'pid ' . getmypid() . "\n";
