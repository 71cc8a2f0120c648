# SPDX-License-Identifier: MIT
"""What handlers may do, well and badly."""
import json, os, re, select, socket
import pytest
from conftest import DEADLINE, App, Answer, eventually
from test_http import GET, read_answer, answers

def test_a_handler_without_a_body_is_404(app): assert (app.ask("GET", "/none").status, app.ask("GET", "/none").body) == (404, b"Not Found")

def test_nothing_a_handler_sets_can_break_the_head(app):
    answer = app.ask("GET", "/injection")
    assert answer.body == b"-22 -22 -22 -22 -22 -22 -22 -22 -22 -22 0" and "evil" not in answer.fields and answer.get("location") == "/a%0D%0AEvil:%201"

def test_a_throw_after_the_head_breaks_the_connection(app):
    data = app.raw(GET % b"/throw_after_head")
    assert b"half" in data and b"0\r\n\r\n" not in data

def test_a_write_after_the_end_is_refused(start):
    app = start(); assert app.ask("GET", "/write_after_end").body == b"end"
    assert "write after the end: -32" in app.output()

def test_next_twice_is_an_error(start):
    app = start(); assert app.ask("GET", "/twice").status == 500
    assert "next() called multiple times by twice" in app.output()

def test_waiting(app):
    assert app.ask("GET", "/wait_fd").body == b"-110 1"
    assert int(app.ask("GET", "/closed_fd").body) < 0
    assert app.ask("GET", "/work").body == b"42"
    held = [app.connect() for _ in range(50)]
    for s in held: s.sendall(GET % b"/slow?ms=60000")
    assert app.ask("GET", "/slow?ms=1").body == b"slow"  # the others wait meanwhile, all of them
    assert select.select(held, [], [], 0)[0] == []
    for s in held: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"); s.close()  # a reset: one that only ends its side still wants its answer

def test_out_of_memory_in_a_request_is_503_and_the_worker_lives(app):
    assert app.ask("GET", "/no_memory").status == 503 and app.ask("GET", "/").status == 200

def test_a_stack_overflow_is_reported_by_name():
    app = App("stack_bytes=65536")
    try: app.raw(GET % b"/overflow")
    except OSError: pass
    assert app.process.wait(DEADLINE) != 0
    text = app.output(); app.log.close()
    assert "stack overflow in middleware overflow" in text or "AddressSanitizer" in text

def test_json(app):
    j = {"Content-Type": "application/json"}
    assert app.ask("POST", "/json", '{"a":[1,"ü"]}'.encode(), j).body == '{"a":[1,"ü"]}'.encode()
    assert app.ask("POST", "/json", "{", j).status == 400 and app.ask("POST", "/json", '{"a":1,"a":2}', j).status == 400
    assert app.ask("POST", "/json", "{}", {"Content-Type": "text/plain"}).status == 415 and app.ask("POST", "/json", None, j).status == 400
    assert app.ask("POST", "/json", "[" * 100000, j).status == 400 and app.ask("POST", "/json", '{"a":' * 50000, j).status == 400
    assert app.ask("POST", "/json", "x" * 1100000, j).status == 413

def test_forms(app):
    f = {"Content-Type": "application/x-www-form-urlencoded"}
    assert app.ask("POST", "/form", "a=1+2%203&b=x&b=y", f).body == b"1 2 3|y"
    assert app.ask("POST", "/form", "c", f).body == b"-|-"

def multipart(parts, boundary="XyZ"):
    out = b""
    for head, body in parts: out += f"--{boundary}\r\n{head}\r\n\r\n".encode() + body + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()

def test_uploads(app):
    m = {"Content-Type": "multipart/form-data; boundary=XyZ"}
    big = os.urandom(300000).replace(b"\n", b"\r")
    body = multipart([('Content-Disposition: form-data; name="title"', b"T"), ('Content-Disposition: form-data; name="f"; filename="C:\\\\dir\\\\a \\"q\\".bin"\r\nContent-Type: image/png', b"\x89PNG" + big),
                      ('Content-Disposition: form-data; name="g"; filename="../../etc/passwd"', b"")])
    answer = app.ask("POST", "/upload", body, m)
    assert answer.body.decode("latin1") == f'2:T;f,a "q".bin,image/png,{300004},\x89PNG;g,passwd,,0,'.encode("latin1").decode("latin1")
    assert app.ask("POST", "/upload", body[:-8], m).status == 400
    assert app.ask("POST", "/upload", multipart([('Content-Disposition: form-data; name="f"; filename="a"', b"x" * 1000001)]), m).status == 413
    assert app.ask("POST", "/upload", multipart([('Content-Disposition: form-data; name="f%d"' % i, b"") for i in range(300)]), m).status == 413
    assert app.ask("POST", "/upload", b"x", {"Content-Type": "multipart/form-data"}).status == 400
    assert app.ask("POST", "/upload", multipart([("X: y", b"")]), m).status == 400

def test_server_sent_events(app):
    answer = app.ask("GET", "/events")
    assert answer.get("content-type") == "text/event-stream" and answer.body == b": hello\n\nid: 1\nevent: tick\ndata: one\ndata: two\n\ndata: three\n\n"

def test_signed_cookies(app, start):
    answer = app.ask("GET", "/signed_set"); pair = [c.split(";")[0] for c in answer.fields["set-cookie"]]
    assert re.fullmatch(r"who.sig=[\w-]{43}", pair[1])
    assert app.ask("GET", "/signed_get", headers={"Cookie": "; ".join(pair)}).body == b"me"
    forged = app.ask("GET", "/signed_get", headers={"Cookie": "who=you; " + pair[1]})
    assert forged.body == b"nobody" and "1970" in forged.get("set-cookie")
    assert app.ask("GET", "/signed_get", headers={"Cookie": pair[0]}).body == b"nobody"
    old = start("old_keys=1"); pair = [c.split(";")[0] for c in old.ask("GET", "/signed_set").fields["set-cookie"]]
    rotated = app.ask("GET", "/signed_get", headers={"Cookie": "; ".join(pair)})  # accepted, and signed anew
    assert rotated.body == b"me" and rotated.get("set-cookie").startswith("who.sig=") and rotated.get("set-cookie").split(";")[0] != pair[1]

def test_a_signature_covers_all_of_a_long_cookie(app):
    pair = [c.split(";")[0] for c in app.ask("GET", "/signed_set?zeros=9000").fields["set-cookie"]]
    assert app.ask("GET", "/signed_get", headers={"Cookie": "; ".join(pair)}).body == b"0" * 9000
    assert app.ask("GET", "/signed_get", headers={"Cookie": pair[0] + "1; " + pair[1]}).body == b"nobody"

@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files"); (root / "sub").mkdir(); (root / "sub" / "index.html").write_text("<i>index</i>")
    (root / "a.txt").write_text("0123456789"); (root / ".secret").write_text("s"); (root / "big.bin").write_bytes(os.urandom(3000000)); (root / "s.js").write_text("plain"); (root / "s.js.gz").write_text("zipped")
    (root.parent / "outside.txt").write_text("outside"); os.symlink("../outside.txt", root / "link"); os.symlink("a.txt", root / "inner"); os.mkfifo(root / "fifo"); (root / "empty").write_text("")
    app = App(f"static={root}"); yield app, root; app.stop()

def test_static_files(files):
    app, root = files; a = app.ask("GET", "/static/a.txt")
    assert (a.status, a.body, a.get("content-type"), a.get("cache-control"), a.get("accept-ranges")) == (200, b"0123456789", "text/plain; charset=utf-8", "max-age=60", "bytes") and a.get("last-modified") and a.get("etag")
    assert app.ask("HEAD", "/static/a.txt").get("content-length") == "10" and app.ask("GET", "/static/big.bin").body == (root / "big.bin").read_bytes()
    assert app.ask("GET", "/static/sub/").body == b"<i>index</i>" and app.ask("GET", "/static/sub").get("location") == "/static/sub/" and app.ask("GET", "/static/empty").body == b""
    assert app.ask("GET", "/static/inner").body == b"0123456789" and app.ask("POST", "/static/a.txt", "x").status == 404

@pytest.mark.parametrize("path", ["/static/../outside.txt", "/static/%2e%2e/outside.txt", "/static/..%2foutside.txt", "/static/%2e%2e%2foutside.txt", "/static/..%5coutside.txt", "/static/sub/../../outside.txt", "/static/link", "/static/.secret", "/static/%2esecret",
                                  "/static/a.txt%00", "/static/%00", "/static/%c0%ae%c0%ae/outside.txt", "/static/%c0%afetc", "/static/%ff", "/static/%ed%a0%80", "/static/%", "/static/%2", "/static/%zz", "/static/fifo", "/static/a.txt/", "/static/a.txt/x", "/static//etc/passwd", "/static/" + "a/" * 2500, "/staticx/a.txt", "/static/%252e%252e/outside.txt"])
def test_no_path_leaves_the_folder(files, path): assert files[0].ask("GET", path).status in (400, 404)

def test_conditional_requests(files):
    app, _ = files; a = app.ask("GET", "/static/a.txt"); etag, date = a.get("etag"), a.get("last-modified")
    for headers in ({"If-None-Match": etag}, {"If-None-Match": "W/" + etag}, {"If-None-Match": '"x", ' + etag}, {"If-None-Match": "*"}, {"If-Modified-Since": date}):
        b = app.ask("GET", "/static/a.txt", headers=headers); assert (b.status, b.body, b.get("etag")) == (304, b"", etag) and "content-type" not in b.fields
    assert app.ask("GET", "/static/a.txt", headers={"If-None-Match": '"x"', "If-Modified-Since": date}).status == 200

@pytest.mark.parametrize("value,status,body,where", [("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=5-", 206, b"56789", "bytes 5-9/10"), ("bytes=-3", 206, b"789", "bytes 7-9/10"), ("bytes=0-999", 206, b"0123456789", "bytes 0-9/10"), ("bytes=9-9", 206, b"9", "bytes 9-9/10"), ("bytes=10-", 416, None, "bytes */10"),
    ("bytes=-0", 416, None, "bytes */10"), ("bytes=5-3", 200, b"0123456789", None), ("bytes=x", 200, b"0123456789", None), ("bytes=0-1,3-4", 200, b"0123456789", None), ("lines=0-1", 200, b"0123456789", None), ("bytes=99999999999999999999-", 200, b"0123456789", None), ("bytes=-99", 206, b"0123456789", "bytes 0-9/10")])
def test_ranges(files, value, status, body, where):
    a = files[0].ask("GET", "/static/a.txt", headers={"Range": value})
    assert (a.status, a.get("content-range")) == (status, where) and (body is None or a.body == body)

def test_a_range_is_for_get(files):
    a = files[0].ask("HEAD", "/static/a.txt", headers={"Range": "bytes=0-3"})
    assert (a.status, a.get("content-range"), a.get("content-length")) == (200, None, "10")

def test_what_a_client_takes_for_granted_is_checked(files):
    app, _ = files; a = app.ask("GET", "/static/a.txt"); etag, date = a.get("etag"), a.get("last-modified")
    for headers, status in (({"If-Match": etag}, 200), ({"If-Match": '"x", ' + etag}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"x"'}, 412), ({"If-Match": "W/" + etag}, 412), ({"If-Unmodified-Since": date}, 200),
                            ({"If-Unmodified-Since": "Tue, 13 May 2014 16:53:20 GMT"}, 412), ({"If-Unmodified-Since": "nonsense"}, 200), ({"If-Match": etag, "If-Unmodified-Since": "Tue, 13 May 2014 16:53:20 GMT"}, 200), ({"If-Match": '"x"', "If-None-Match": etag}, 412)):
        assert app.ask("GET", "/static/a.txt", headers=headers).status == status, headers

def test_if_range(files):
    app, _ = files; a = app.ask("GET", "/static/a.txt")
    for value, status in ((a.get("etag"), 206), ('"x"', 200), ("W/" + a.get("etag"), 200), (a.get("last-modified"), 206), ("Tue, 13 May 2014 16:53:20 GMT", 200)):
        assert app.ask("GET", "/static/a.txt", headers={"Range": "bytes=0-1", "If-Range": value}).status == status

def test_precompressed_files(files):
    a = files[0].ask("GET", "/static/s.js", headers={"Accept-Encoding": "gzip"}); b = files[0].ask("GET", "/static/s.js")
    assert (a.body, a.get("content-encoding"), a.get("vary"), a.get("content-type")) == (b"zipped", "gzip", "Accept-Encoding", "text/javascript; charset=utf-8") and (b.body, b.get("vary")) == (b"plain", "Accept-Encoding")

def test_a_replaced_file_is_seen(files):
    app, root = files; (root / "r.txt").write_text("one"); assert app.ask("GET", "/static/r.txt").body == b"one"
    (root / "n").write_text("two!"); os.rename(root / "n", root / "r.txt"); eventually(lambda: app.ask("GET", "/static/r.txt").body == b"two!")

def test_files_sent_by_handlers(app):
    assert app.ask("GET", "/file?path=/etc/hostname").body == open("/etc/hostname", "rb").read() and app.ask("GET", "/file?path=/nonexistent").status == 404 and app.ask("GET", "/file?path=/etc").status == 404
    assert app.ask("GET", "/send?path=/GPL-2").status == 200 and app.ask("GET", "/send?path=/../../../etc/passwd").status == 404

def test_logger_combined(start):
    app = start("log=1"); app.ask("GET", "/?a=1", headers={"User-Agent": 'evil"\\', "Referer": "http://r/"})
    assert eventually(lambda: re.search(r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "GET /\?a=1 HTTP/1\.1" 200 2 "http://r/" "evil\\x22\\x5c"\n', app.output())), app.output()

def test_logger_json(start):
    app = start("log=2"); app.ask("GET", "/none", headers={"User-Agent": 'e"\\\xff'}); eventually(lambda: re.search(r"^\{.*\}$", app.output(), re.M))
    line = json.loads([l for l in app.output().splitlines() if l.startswith("{")][-1]); assert (line["method"], line["url"], line["status"], line["bytes"]) == ("GET", "/none", 404, 9)

def test_cors(start):
    app = start("cors=1"); a = app.ask("GET", "/", headers={"Origin": "https://a.example"})
    assert (a.get("access-control-allow-origin"), a.get("access-control-allow-credentials"), a.get("vary"), a.get("access-control-expose-headers")) == ("https://a.example", "true", "Origin", "X-A")
    assert app.ask("GET", "/", headers={"Origin": "https://evil.example"}).get("access-control-allow-origin") is None and app.ask("GET", "/").get("vary") == "Origin"
    p = app.ask("OPTIONS", "/", headers={"Origin": "https://b.example", "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a"})
    assert (p.status, p.get("access-control-allow-headers"), p.get("access-control-max-age")) == (204, "x-a", "600")

def test_security_headers(start):
    a = start("security=1").ask("GET", "/"); assert a.get("x-content-type-options") == "nosniff" and "default-src" in a.get("content-security-policy") and a.get("x-frame-options") == "SAMEORIGIN"

def test_request_ids(start):
    app = start("request_id=1"); a, b = app.ask("GET", "/", headers={"X-Request-Id": "mine"}).get("x-request-id"), app.ask("GET", "/").get("x-request-id")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", a) and a != b
    app = start("request_id=2"); assert app.ask("GET", "/", headers={"X-Request-Id": "mine"}).get("x-request-id") == "mine" and app.ask("GET", "/", headers={"X-Request-Id": "a b"}).get("x-request-id") != "a b"

def test_etag_middleware(start):
    app = start("etag=1"); a = app.ask("GET", "/"); assert app.ask("GET", "/", headers={"If-None-Match": a.get("etag")}).status == 304

def test_405_has_allow(app):
    a = app.ask("DELETE", "/"); assert a.status == 405 and set(a.get("allow").split(", ")) == {"GET", "HEAD", "POST"}
    a = app.ask("OPTIONS", "/echo"); assert (a.status, a.get("allow")) == (200, "POST")
