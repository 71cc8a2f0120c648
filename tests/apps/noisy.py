"""python3 noisy.py PORT COUNT LENGTH: COUNT lines of 1..LENGTH bytes on both streams, each telling what it should be, then serves.

A line is "STREAM NUMBER LENGTH xxxx": LENGTH bytes with the newline. The lengths run up and down between the two limits, and the
longest one is always among them. After all of them one line "STREAM done". An answer says on how many streams it still talks."""
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

port, count, longest = (int(word) for word in sys.argv[1:4])


def line(stream, number):
    length = longest if number == count // 2 else 40 + number * 7919 % max(longest - 40, 1)
    head = f"{stream} {number} {length} "
    return (head + "x" * (length - len(head) - 1) + "\n").encode()


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def talk(fd, stream):
    for number in range(count):
        write_all(fd, line(stream, number))
    write_all(fd, f"{stream} done\n".encode())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"pid %d\ntalking %d\n" % (os.getpid(), sum(thread.is_alive() for thread in threads))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", port), Handler)
threads = [threading.Thread(target=talk, args=pair, daemon=True) for pair in ((1, "out"), (2, "err"))]
for thread in threads:
    thread.start()
server.serve_forever()
