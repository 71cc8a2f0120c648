"""Python's http.server. python3 http_server.py PORT. GET /block/MS: it accepts one more, and then nobody for so long."""
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/block/"):
            Server.pause = int(self.path[7:]) / 1000
        body = b"pid %d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    pause = 0

    def get_request(self):
        pause, Server.pause = Server.pause, 0
        time.sleep(pause)
        return super().get_request()


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
