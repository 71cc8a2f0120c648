# SPDX-License-Identifier: MIT
"""The must-reject table (docs/http.md), row by row over a real socket. After each refusal: one answer, Connection: close, and
a whole request that follows in the same bytes is not answered."""
import pytest
from conftest import Answer, App

H = b"Host: a\r\n"
FOLLOW = b"GET /?smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
def get(line=b"GET / HTTP/1.1", fields=H): return line + b"\r\n" + fields + b"\r\n"
def post(fields, body=b""): return b"POST /echo HTTP/1.1\r\n" + H + fields + b"\r\n" + body
def chunked(body): return post(b"Transfer-Encoding: chunked\r\n", body)

BAD = [
    (1, "LF after request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400), (1, "LF after field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400), (1, "LF as blank line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    (1, "LF after chunk size", chunked(b"1\nx\r\n0\r\n\r\n"), 400), (1, "LF after chunk", chunked(b"1\r\nx\n0\r\n\r\n"), 400), (1, "LF in trailer", chunked(b"0\r\nX-A: 1\n\r\n"), 400), (1, "LF ends trailer", chunked(b"0\r\n\n"), 400),
    (2, "CR in request line", b"GET /\r HTTP/1.1\r\n" + H + b"\r\n", 400), (2, "CR in value", get(fields=H + b"X: a\rb\r\n"), 400), (2, "CR before CRLF", get(fields=H + b"X: a\r\r\n"), 400), (2, "CR in name", get(fields=H + b"X\r: a\r\n"), 400),
    (3, "NUL in value", get(fields=H + b"X: a\0b\r\n"), 400), (3, "control in value", get(fields=H + b"X: a\x01b\r\n"), 400), (3, "DEL in value", get(fields=H + b"X: a\x7fb\r\n"), 400), (3, "vertical tab", get(fields=H + b"X: a\x0bb\r\n"), 400),
    (4, "NUL in target", get(b"GET /\0 HTTP/1.1"), 400), (4, "control in target", get(b"GET /\x01 HTTP/1.1"), 400), (4, "non-ASCII target", get("GET /ü HTTP/1.1".encode()), 400), (4, "backslash", get(b"GET /\\x HTTP/1.1"), 400),
    (4, "quote", get(b'GET /"x HTTP/1.1'), 400), (4, "angle", get(b"GET /<x> HTTP/1.1"), 400), (4, "fragment", get(b"GET /#x HTTP/1.1"), 400), (4, "DEL in target", get(b"GET /\x7f HTTP/1.1"), 400),
    (5, "obs-fold", get(fields=H + b"X: a\r\n b\r\n"), 400), (5, "obs-fold tab", get(fields=H + b"X: a\r\n\tb\r\n"), 400),
    (6, "space before colon", get(fields=b"Host : a\r\n"), 400), (6, "tab before colon", get(fields=H + b"X\t: a\r\n"), 400), (6, "space before colon of CL", post(b"Content-Length : 1\r\n", b"x"), 400),
    (7, "space before first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400), (7, "tab before first field", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", 400),
    (8, "empty name", get(fields=H + b": a\r\n"), 400), (8, "no colon", get(fields=H + b"nothing\r\n"), 400), (8, "bad byte in name", get(fields=H + b"X(a): b\r\n"), 400), (8, "high byte in name", get(fields=H + b"X\xff: b\r\n"), 400), (8, "slash in name", get(fields=H + b"X/Y: b\r\n"), 400),
    (9, "two spaces", get(b"GET  / HTTP/1.1"), 400), (9, "two spaces later", get(b"GET /  HTTP/1.1"), 400), (9, "tab", get(b"GET\t/ HTTP/1.1"), 400), (9, "no target", get(b"GET HTTP/1.1"), 400), (9, "extra word", get(b"GET / x HTTP/1.1"), 400),
    (9, "leading space", get(b" GET / HTTP/1.1"), 400), (9, "trailing space", get(b"GET / HTTP/1.1 "), 400), (9, "method only", b"GET\r\n\r\n", 400), (9, "bad method byte", get(b"G@T / HTTP/1.1"), 400), (9, "relative target", get(b"GET x HTTP/1.1"), 400),
    (9, "five empty lines", b"\r\n" * 5 + get(), 400),
    (10, "lower-case http", get(b"GET / http/1.1"), 400), (10, "HTTP/1", get(b"GET / HTTP/1"), 400), (10, "HTTP/01.1", get(b"GET / HTTP/01.1"), 400), (10, "HTTP/1.1x", get(b"GET / HTTP/1.1x"), 400), (10, "HTTP/1.", get(b"GET / HTTP/1."), 400), (10, "ICY", get(b"GET / ICY/1.1"), 400), (10, "HTTP/1,1", get(b"GET / HTTP/1,1"), 400),
    (11, "HTTP/2.0", get(b"GET / HTTP/2.0"), 505), (11, "HTTP/3.0", get(b"GET / HTTP/3.0"), 505), (11, "HTTP/0.9", get(b"GET / HTTP/0.9"), 505),
    (12, "HTTP/0.9 line", b"GET /\r\n", 400),
    (13, "no Host", get(fields=b""), 400), (13, "two Hosts", get(fields=H + b"Host: b\r\n"), 400), (13, "two equal Hosts", get(fields=H + H), 400), (13, "user info", get(fields=b"Host: u@a\r\n"), 400), (13, "path in Host", get(fields=b"Host: a/b\r\n"), 400),
    (13, "comma", get(fields=b"Host: a,b\r\n"), 400), (13, "space", get(fields=b"Host: a b\r\n"), 400), (13, "port no number", get(fields=b"Host: a:x\r\n"), 400), (13, "port too long", get(fields=b"Host: a:123456\r\n"), 400), (13, "open bracket", get(fields=b"Host: [::1\r\n"), 400), (13, "junk after bracket", get(fields=b"Host: [::1]x\r\n"), 400),
    (14, "absolute-form, other Host", get(b"GET http://b/ HTTP/1.1"), 400), (14, "absolute-form, user info", get(b"GET http://u@a/ HTTP/1.1"), 400), (14, "no authority", get(b"GET http:/// HTTP/1.1"), 400), (14, "other scheme", get(b"GET ftp://a/ HTTP/1.1"), 400),
    (15, "* with GET", get(b"GET * HTTP/1.1"), 400), (15, "authority-form with GET", get(b"GET a:80 HTTP/1.1"), 400), (15, "** with OPTIONS", get(b"OPTIONS ** HTTP/1.1"), 400), (15, "CONNECT with a path", get(b"CONNECT / HTTP/1.1"), 400), (15, "CONNECT without port", get(b"CONNECT a HTTP/1.1"), 400),
    (16, "CONNECT", get(b"CONNECT a:80 HTTP/1.1"), 501),
    (17, "TE and CL", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"), 400), (17, "CL and TE", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    (18, "chunked not final", post(b"Transfer-Encoding: chunked, gzip\r\n"), 400), (18, "chunked twice", post(b"Transfer-Encoding: chunked, chunked\r\n"), 400), (18, "two TE lines", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400), (18, "two TE lines, other", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"), 400), (18, "gzip only", post(b"Transfer-Encoding: gzip\r\n"), 400),
    (19, "gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n"), 501), (19, "xchunked", post(b"Transfer-Encoding: xchunked\r\n"), 400), (19, "identity", post(b"Transfer-Encoding: identity\r\n"), 400), (19, "empty", post(b"Transfer-Encoding:\r\n"), 400), (19, "parameter", post(b"Transfer-Encoding: chunked;q=1\r\n"), 400),
    (19, "VT chunked", post(b"Transfer-Encoding: \x0bchunked\r\n"), 400), (19, "garbage", post(b"Transfer-Encoding: chunked x\r\n"), 400), (19, "x, chunked on two lines", post(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"), 501), (19, "quoted", post(b'Transfer-Encoding: "chunked"\r\n'), 400),
    (20, ",chunked", post(b"Transfer-Encoding: ,chunked\r\n"), 400), (20, "chunked,", post(b"Transfer-Encoding: chunked,\r\n"), 400),
    (21, "TE in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    *[(22, f"CL {v!r}", post(b"Content-Length: " + v + b"\r\n", b"xxxxx"), 400) for v in [b"", b"+5", b"-5", b"0x5", b"5_0", b"5 5", b"99999999999999999999", b"5, 5", b"5,", b"5.0", b"5;", b"\x0b5"]],
    (22, "two CLs", post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"xxxxx"), 400), (22, "two equal CLs", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"xxxxx"), 400),
    *[(23, f"chunk size {v!r}", chunked(v + b"\r\nx\r\n0\r\n\r\n"), 400) for v in [b"", b"+1", b"-1", b"0x1", b"1_0", b" 1", b"1 ", b"\t1", b"0000000000000001", b"1g", b"1.0"]],
    (24, "no CRLF after chunk", chunked(b"1\r\nx0\r\n\r\n"), 400), (24, "data longer than size", chunked(b"1\r\nxy\r\n0\r\n\r\n"), 400),
    (25, "bare ; in chunk", chunked(b"1;\r\nx\r\n0\r\n\r\n"), 400), (25, "control in extension", chunked(b"1;a\x01\r\nx\r\n0\r\n\r\n"), 400), (25, "CR in extension", chunked(b"1;a\rb\r\nx\r\n0\r\n\r\n"), 400), (25, "extensions too large", chunked(b"1;" + b"a" * 17000 + b"\r\nx\r\n0\r\n\r\n"), 413),
    (25, "many extensions", chunked(b"".join(b"1;" + b"a" * 1000 + b"\r\nx\r\n" for _ in range(20)) + b"0\r\n\r\n"), 413),
    (26, "CL in trailer", chunked(b"0\r\nContent-Length: 1\r\n\r\n"), 400), (26, "TE in trailer", chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400), (26, "Host in trailer", chunked(b"0\r\nHost: b\r\n\r\n"), 400), (26, "trailer no colon", chunked(b"0\r\nnothing\r\n\r\n"), 400), (26, "trailer fold", chunked(b"0\r\nX: a\r\n b\r\n\r\n"), 400),
    (27, "head too large", get(fields=H + b"X: " + b"a" * 20000 + b"\r\n"), 431), (27, "too many fields", get(fields=H + b"X: a\r\n" * 200), 431), (27, "100,000 lines", get(fields=H + b"X: a\r\n" * 100000), 431), (27, "trailer too large", chunked(b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"), 431),
    (28, "target too long", get(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414), (28, "endless target", b"GET /" + b"a" * 100000, 414),
    (29, "method too long", get(b"A" * 40 + b" / HTTP/1.1"), 501), (29, "endless method", b"A" * 1000, 501),
    (30, "body over limit by CL", post(b"Content-Length: 2000000\r\n"), 413), (30, "body over limit, chunked", chunked(b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"), 413),
    (31, "unknown Expect", post(b"Expect: 200-ok\r\nContent-Length: 1\r\n", b"x"), 417),
    (36, "PRI preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
]

@pytest.mark.parametrize("row,name,data,status", BAD, ids=[f"row{r}-{n}" for r, n, _, _ in BAD])
def test_is_refused_and_nothing_after_it_is_interpreted(app, row, name, data, status):
    answer = Answer(app.raw(data + FOLLOW))
    assert answer.status == status
    assert answer.get("connection") == "close"
    assert answer.rest == b""

@pytest.mark.parametrize("row,name,data,status", [b for b in BAD if len(b[2]) < 300], ids=[f"row{r}-{n}" for r, n, d, _ in BAD if len(d) < 300])
def test_is_refused_when_it_comes_byte_by_byte(app, row, name, data, status):
    with app.connect() as s:
        try:
            for i in range(len(data)): s.send(data[i:i + 1])
        except OSError: pass
        from conftest import read_all
        answer = Answer(read_all(s))
    assert answer.status == status

GOOD = [
    ("empty lines first", b"\r\n\r\n" + get(), 200), ("OWS around value", get(fields=b"Host: \t a \t\r\n"), 200), ("leading zeros", post(b"Content-Length: 0005\r\n", b"xxxxx"), 200), ("HTTP/1.2", get(b"GET / HTTP/1.2"), 200),
    ("absolute-form, same Host", get(b"GET http://a/ HTTP/1.1"), 200), ("absolute-form, other case", get(b"GET HTTP://A/ HTTP/1.1"), 200), ("absolute-form without path", get(b"GET http://a HTTP/1.1"), 200), ("* with OPTIONS", get(b"OPTIONS * HTTP/1.1"), 404),
    ("Host with port", get(fields=b"Host: a:80\r\n"), 200), ("IPv6 Host", get(fields=b"Host: [::1]:80\r\n"), 200), ("empty Host", get(fields=b"Host:\r\n"), 200), ("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", 200), ("unknown method", get(b"BREW / HTTP/1.1"), 501),
    ("lower-case method", get(b"get / HTTP/1.1"), 501), ("known method, no route", get(b"DELETE / HTTP/1.1"), 405), ("underscore names", get(fields=H + b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\n"), 200), ("obs-text in value", get(fields=H + b"X: \xff\xfe\r\n"), 200),
    ("chunk extension", chunked(b'1;a=b;c="d"\r\nx\r\n0\r\n\r\n'), 200), ("upper-case Chunked", post(b"Transfer-Encoding: CHUNKED\r\n", b"1\r\nx\r\n0\r\n\r\n"), 200), ("hex case", chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), 200), ("trailer", chunked(b"0\r\nX-Check: y\r\n\r\n"), 200),
    ("forbidden trailer dropped", chunked(b"0\r\nAuthorization: y\r\nX-Check: z\r\n\r\n"), 200), ("target of 8000 bytes", get(b"GET /?" + b"a" * 8000 + b" HTTP/1.1"), 200), ("empty value", get(fields=H + b"X:\r\n"), 200), ("size 000", chunked(b"000\r\n\r\n"), 200), ("trailing body of CL 0", post(b"Content-Length: 0\r\n"), 200),
    ("Upgrade on POST is plain", b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\n", 200), ("Upgrade in HTTP/1.0 is plain", b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", 200), ("Upgrade without Connection", get(b"GET /upgrade HTTP/1.1", H + b"Upgrade: echo\r\n"), 200),
]

@pytest.mark.parametrize("name,data,status", GOOD, ids=[g[0] for g in GOOD])
def test_is_accepted(app, name, data, status):
    head, sep, rest = data.partition(b"\r\n\r\n") if not data.startswith(b"\r\n") else (data[:-4], b"\r\n\r\n", b"")
    answer = Answer(app.raw(head + b"\r\nConnection: close" + sep + rest) if b"onnection" not in data else app.raw(data, half_close=True))
    assert answer.status == status, answer.body

def test_an_underscore_name_is_refused_when_asked(start):
    app = start("refuse_underscore_names=1")
    assert Answer(app.raw(get(fields=H + b"Content_Length: 5\r\n"))).status == 400

def test_connect_hands_the_socket_over_when_asked(start):
    app = start("accept_connect=1")
    answer = Answer(app.raw(get(b"CONNECT a:80 HTTP/1.1") + b"early "), head_only=True)
    assert answer.status == 200 and "content-length" not in answer.fields and "transfer-encoding" not in answer.fields and answer.rest == b"early bye"

def test_limits_are_options(start):
    app = start("max_header_bytes=1000", "max_header_count=5", "max_body_bytes=10")
    assert Answer(app.raw(get(fields=H + b"X: " + b"a" * 1000 + b"\r\n"))).status == 431
    assert Answer(app.raw(get(fields=H + b"X: a\r\n" * 5))).status == 431
    assert app.ask("POST", "/echo", "x" * 11).status == 413
    assert app.ask("POST", "/echo", "x" * 10).status == 200
