"""python3 notify_ready.py PORT [SECONDS|FILE [FD]]: listens at once and says it is ready SECONDS later (1), or once FILE exists: READY=1
to NOTIFY_SOCKET, or, with FD, a newline on that descriptor."""
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"pid %d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def wait_for(what):
    if what.startswith("/"):
        while not os.path.exists(what):
            time.sleep(0.02)
    else:
        time.sleep(float(what))


def say_ready(what, fd):
    wait_for(what)
    if fd is not None:
        os.write(fd, b"\n")
        return
    path = os.environ["NOTIFY_SOCKET"]
    if path.startswith("@"):
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(path)
        notify.send(b"STATUS=warm\nREADY=1\n")


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
delay = sys.argv[2] if len(sys.argv) > 2 else "1"
threading.Thread(target=say_ready, args=(delay, int(sys.argv[3]) if len(sys.argv) > 3 else None), daemon=True).start()
server.serve_forever()
