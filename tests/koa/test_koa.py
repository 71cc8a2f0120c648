# SPDX-License-Identifier: MIT
"""Real Koa and Pando side by side: the same small app, the same request, the same status, headers and body.
Run by tests/koa/run.sh, which builds cases.c and installs Koa. Differences that are meant are in EXCEPTIONS, with the reason."""
import os, random, socket, subprocess, sys, time
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
PANDO = os.environ.get("PANDO_KOA_CASES", "/tmp/koa_cases")
ROOT = "/tmp/pando-koa-static"

# Headers that belong to the two servers, not to Koa.
IGNORED = {"date", "connection", "keep-alive"}

# (case or path, what): why Pando differs on purpose
EXCEPTIONS = {
    "status_205": "Node sends 205 chunked with an empty body; Pando sends Content-Length: 0, RFC 9110 15.3.6",
    "status_unknown_text": "Node's reason phrase is 'unknown'; Pando leaves it empty",
}

A = {}
def case(name, method="GET", path="/", body=None, **headers):
    return (name, method, path, {k.replace("_", "-"): v for k, v in headers.items()}, body)

SIMPLE = """nothing text html html_blank text_later_html empty_text utf8 buffer json_object json_array json_typed json_over_text_type text_then_json json_then_text
null_body null_then_200 null_304 null_json text_then_null status_only_200 status_only_201 status_only_400 status_only_418 status_only_503 status_204 status_205 status_304
text_then_204 status_then_text text_then_status status_unknown_text message message_only type_first type_after type_png type_js type_full type_charset type_unknown
type_json_text type_get length_get stream stream_typed stream_length text_then_stream stream_then_text set append removed vary vary_star etag etag_weak etag_quoted
last_modified redirect redirect_abs redirect_query redirect_utf8 redirect_301 redirect_307 redirect_201 redirect_typed back back_alt attachment attachment_name
attachment_space attachment_quote attachment_utf8 attachment_inline cookie_set cookie_attributes cookie_expire cookie_two cookie_overwrite throw_400 throw_401 throw_404
throw_500 throw_503 throw_headers throw_after_body assertion next_404 onion catch_throw catch_none""".split()

CASES = [case(n) for n in SIMPLE]
# HEAD: the same head, no body
CASES += [case(n, "HEAD") for n in "nothing text html buffer json_object null_body null_then_200 status_only_200 status_204 stream throw_400 redirect empty_text type_unknown".split()]
CASES += [case(n, "POST", body="a=b", Content_Type="application/x-www-form-urlencoded") for n in "text json_object throw_400 nothing".split()]
CASES += [
    case("fresh", If_None_Match='"abc"'), case("fresh", If_None_Match='W/"abc"'), case("fresh", If_None_Match='"x", "abc"'), case("fresh", If_None_Match='"x"'), case("fresh", If_None_Match="*"),
    case("fresh", If_Modified_Since="Tue, 13 May 2014 16:53:20 GMT"), case("fresh", If_Modified_Since="Tue, 13 May 2014 16:53:19 GMT"), case("fresh", If_Modified_Since="nonsense"),
    case("fresh", If_None_Match='"abc"', Cache_Control="no-cache"), case("fresh", If_None_Match='"x"', If_Modified_Since="Tue, 13 May 2014 16:53:20 GMT"), case("fresh"), case("fresh", "POST", body="x", If_None_Match='"abc"'),
    case("redirect", Accept="text/html"), case("redirect", Accept="text/plain"), case("redirect", Accept="application/json"), case("redirect_query", Accept="text/plain"), case("redirect_query", Accept="text/html"),
    case("back", Referrer="/here"), case("back", Referer="http://localhost/here"), case("back", Referer="http://evil.example/here"), case("back", Referer="//evil.example/x"), case("back_alt", Referer="https://evil.example/"),
    case("r_path", path="/a/b?c=d"), case("r_path", path="/a%20b"), case("r_url", path="/a/b?c=d"), case("r_querystring", path="/a?b=c&d"), case("r_querystring", path="/a?"), case("r_search", path="/a?b=1"), case("r_search", path="/a"),
    case("r_query", path="/?a=1"), case("r_query", path="/?a=1+2%203"), case("r_query", path="/?b=1"), case("r_query", path="/?a"), case("r_query", path="/?a=%C3%BC"), case("r_query_two", path="/?a=1&b=x&a=2"),
    case("r_set_path", path="/old?x=1"), case("r_set_query", path="/old?x=1"),
    case("r_host", Host="example.com:81"), case("r_host", Host="example.com", X_Forwarded_Host="evil.example"), case("r_hostname", Host="example.com:81"), case("r_hostname", Host="[::1]:81"),
    case("r_protocol", X_Forwarded_Proto="https"), case("r_origin", Origin="http://o.example"), case("r_origin"), case("r_href", path="/x?y=1", Host="example.com"), case("r_ip"), case("r_ips", X_Forwarded_For="1.1.1.1, 2.2.2.2"),
    case("r_subdomains", Host="a.b.example.com"), case("r_subdomains", Host="127.0.0.1"), case("r_subdomains", Host="localhost"),
    case("r_type", "POST", body="x", Content_Type="text/html; charset=utf-8"), case("r_type"), case("r_charset", "POST", body="x", Content_Type="text/html; charset=utf-8"), case("r_charset", "POST", body="x", Content_Type="text/html"),
    case("r_length", "POST", body="hello"), case("r_length"), case("r_get", X_Thing="  v  "), case("r_get"), case("r_referrer", Referer="http://a/"), case("r_referrer", Referrer="http://b/"),
    case("r_idempotent"), case("r_idempotent", "POST", body="x"), case("r_method", "PATCH", body="x"), case("r_method", "DELETE"),
    case("assertion", path="/?user=1"),
    case("cookie_get", Cookie="a=1"), case("cookie_get", Cookie="x=2; a=1; b=3"), case("cookie_get", Cookie='a="q"'), case("cookie_get", Cookie="aa=1"), case("cookie_get"), case("cookie_get", Cookie="a=1=2"),
]
for accept in ["text/html", "application/json", "*/*", "text/*", "text/html;q=0.5, application/json", "application/json;q=0", "image/png", "text/html, application/xhtml+xml, application/xml;q=0.9, */*;q=0.8", "text/*;q=0.3, text/html;q=0.7, */*;q=0.5", "", "nonsense"]:
    CASES += [case("accepts_html_json", Accept=accept), case("accepts_json_html", Accept=accept)]
CASES += [case("accepts_html_json"), case("accepts_png", Accept="image/*"), case("accepts_png", Accept="image/webp"), case("accepts_png", Accept="text/html"), case("accepts_full", Accept="application/xml, text/plain;q=0.9"), case("accepts_full", Accept="text/*")]
for encoding in [None, "gzip", "gzip, deflate;q=0.5", "identity", "*", "gzip;q=0", "deflate, gzip", "identity;q=0, gzip", "br", "", "*;q=0"]:
    CASES += [case("accepts_enc", **({"Accept_Encoding": encoding} if encoding is not None else {})), case("accepts_enc_gz", **({"Accept_Encoding": encoding} if encoding is not None else {}))]
for charset in [None, "utf-8", "iso-8859-1", "utf-8;q=0.1, iso-8859-1", "*", "utf-16"]:
    CASES.append(case("accepts_char", **({"Accept_Charset": charset} if charset else {})))
for language in [None, "de", "de-CH", "fr;q=0.9, de;q=0.8", "*", "es", "en-US, en;q=0.5", "es, *;q=0.1"]:
    CASES.append(case("accepts_lang", **({"Accept_Language": language} if language else {})))
for content in ["application/json", "application/json; charset=utf-8", "text/html", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/vnd.api+json", "nonsense"]:
    for name in ["is_json", "is_text", "is_many", "is_suffix"]:
        CASES.append(case(name, "POST", body="x", Content_Type=content))
CASES.append(case("is_json"))
ROUTER = [("GET", "/router"), ("GET", "/router/"), ("GET", "/router/users/7"), ("HEAD", "/router/users/7"), ("GET", "/router/users/7/"), ("GET", "/router/USERS/7"), ("GET", "/router/users/a%20b"),
          ("GET", "/router/users/a%2Fb"), ("GET", "/router/users"), ("POST", "/router/users"), ("PUT", "/router/users/7"), ("DELETE", "/router/users/7"), ("PATCH", "/router/users/7"), ("POST", "/router/users/7"),
          ("GET", "/router/files/a"), ("GET", "/router/files/a/b/c"), ("GET", "/router/files"), ("GET", "/router/files/"), ("GET", "/router/opt"), ("GET", "/router/opt/5"), ("GET", "/router/dash/12-x"),
          ("GET", "/router/dash/12"), ("GET", "/router/static"), ("GET", "/router/static/"), ("GET", "/router/staticx"), ("POST", "/router/static"), ("GET", "/router/any"), ("PATCH", "/router/any"), ("GET", "/router/old"),
          ("GET", "/router/nest/3/deep/z"), ("GET", "/router/nest/3"), ("GET", "/router/none"), ("OPTIONS", "/router/static"), ("OPTIONS", "/router/users/7"), ("PROPFIND", "/router/static"), ("GET", "/other")]
CASES += [case("", m, p, "x" if m in ("POST", "PUT", "PATCH") else None) for m, p in ROUTER]
STATIC = [("GET", "/a.txt"), ("HEAD", "/a.txt"), ("GET", "/page.html"), ("GET", "/data.json"), ("GET", "/image.png"), ("GET", "/sub/"), ("GET", "/.hidden"), ("GET", "/missing.txt"), ("GET", "/a%2etxt"), ("GET", "/sp%20ace.txt"),
          ("GET", "/%"), ("POST", "/a.txt"), ("GET", "/noext"), ("GET", "/a.txt/"), ("GET", "/empty.txt")]
PROXY = [case("r_host", X_Forwarded_Host="a.example, b.example"), case("r_host", X_Forwarded_Host="user@c.example"), case("r_protocol", X_Forwarded_Proto="https, http"), case("r_ips", X_Forwarded_For="1.1.1.1, 2.2.2.2, 3.3.3.3"), case("r_ip", X_Forwarded_For="1.1.1.1, 2.2.2.2, 3.3.3.3"),
         case("r_ip"), case("r_href", path="/p", X_Forwarded_Proto="https", X_Forwarded_Host="f.example"), case("r_hostname", X_Forwarded_Host="f.example:8080"), case("cookie_set", X_Forwarded_Proto="https")]

def free_port():
    """From below the ephemeral range: no outgoing connection takes it before the server does."""
    for _ in range(1000):
        with socket.socket() as s:
            port = random.randrange(20000, 30000)
            try: s.bind(("0.0.0.0", port)); return port
            except OSError: continue
    raise RuntimeError("no free port between 20000 and 29999")

class Server:
    def __init__(self, argv, port):
        self.port = port
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if False else None)
        for _ in range(1200):
            try: socket.create_connection(("127.0.0.1", port), 30).close(); return
            except OSError: time.sleep(0.05)
        raise RuntimeError("no server: " + " ".join(argv))
    def stop(self):
        self.process.terminate(); self.process.wait(60)

def pair(*extra):
    a, b = free_port(), free_port()
    return Server([PANDO, f"127.0.0.1:{a}", *extra], a), Server(["node", os.path.join(HERE, "cases.js"), str(b), *extra], b)

@pytest.fixture(scope="module")
def plain():
    os.makedirs(ROOT + "/sub", exist_ok=True)
    for name, text in [("a.txt", "aaa\n"), ("page.html", "<p>x</p>"), ("data.json", "{}"), ("image.png", "PNG"), ("sub/index.html", "<i>index</i>"), (".hidden", "secret"), ("sp ace.txt", "s"), ("noext", "n"), ("empty.txt", "")]:
        with open(os.path.join(ROOT, name), "w") as f: f.write(text)
        os.utime(os.path.join(ROOT, name), (1500000000, 1500000000))
    servers = pair(); yield servers
    for s in servers: s.stop()

@pytest.fixture(scope="module")
def proxied():
    servers = pair("proxy"); yield servers
    for s in servers: s.stop()

@pytest.fixture(scope="module")
def static(plain):
    servers = pair("plain", ROOT); yield servers
    for s in servers: s.stop()

def ask(server, name, method, path, headers, body):
    head = {"Host": "localhost", **({"X-Case": name} if name else {}), "Connection": "close", **headers}
    if body is not None: head["Content-Length"] = str(len(body))
    text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head.items()) + "\r\n" + (body or "")
    with socket.create_connection(("127.0.0.1", server.port), 30) as s:
        s.settimeout(30); s.sendall(text.encode("latin1")); data = b""
        while chunk := s.recv(65536): data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin1").split("\r\n")
    fields = {}
    for line in lines[1:]:
        k, _, v = line.partition(":"); fields.setdefault(k.lower(), []).append(v.strip())
    if "chunked" in fields.get("transfer-encoding", []):
        out = b""
        while body:
            size, _, body = body.partition(b"\r\n"); n = int(size, 16); out += body[:n]; body = body[n + 2:]
        body = out
    return lines[0], {k: v for k, v in fields.items() if k not in IGNORED}, body

def normal(answer):
    line, fields, body = answer
    for cookie in fields.get("set-cookie", []): assert cookie
    if "allow" in fields: fields["allow"] = [", ".join(sorted(x.strip() for x in fields["allow"][0].split(",")))]
    return line, fields, body

def compare(servers, one):
    name, method, path, headers, body = one
    ours, theirs = normal(ask(servers[0], *one)), normal(ask(servers[1], *one))
    if name in EXCEPTIONS: pytest.xfail(EXCEPTIONS[name]) if ours != theirs else None
    assert ours == theirs

def label(one): return f"{one[0] or 'router'}-{one[1]}-{one[2]}-" + "-".join(f"{k}={v}" for k, v in one[3].items())

@pytest.mark.parametrize("one", CASES, ids=label)
def test_same_as_koa(plain, one): compare(plain, one)

@pytest.mark.parametrize("one", PROXY, ids=label)
def test_same_as_koa_behind_a_proxy(proxied, one): compare(proxied, one)

# koa-send has no ETag, no ranges: those headers are more, not different.
MORE = {"etag", "accept-ranges"}
@pytest.mark.parametrize("method,path", STATIC)
def test_same_as_koa_static(static, method, path):
    one = ("", method, path, {}, "x" if method == "POST" else None)
    ours, theirs = ask(static[0], *one), ask(static[1], *one)
    assert (ours[0], {k: v for k, v in ours[1].items() if k not in MORE}, ours[2]) == theirs
