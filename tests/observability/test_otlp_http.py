"""Posts to a real server that writes down what it gets."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from observability.otlp_http import BadProxy, HttpTransport
from observability.otlp_settings import Connection

from .collectors import DEADLINE_S, nobody, silence

MADE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    " -subj /CN=collector -addext subjectAltName=IP:127.0.0.1"
)


class Post:
    def __init__(self, target: str, headers: dict[str, str], body: bytes) -> None:
        self.target, self.headers, self.body = target, headers, body


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, status: int = 200, keeps: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.keeps, self.scheme = status, keeps, "http"
        self.posts: list[Post] = []
        self.callers: set[int] = set()
        """The ports that posts came from: one for each connection."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.posts.append(Post(self.path, headers, body))
        self.server.callers.add(self.client_address[1])
        self.send_response(self.server.status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = not self.server.keeps  # without saying so

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - its name there


def post(url: str, body: bytes, connection: Connection, within_s: float = 5.0) -> str | None:
    """One, over a connection of its own."""
    with closing(HttpTransport(url, connection, within_s)) as transport:
        return transport.send(body)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(DEADLINE_S)
        server.server_close()


def test_posts_go_over_one_connection_with_what_is_to_be_said() -> None:
    with serving(Server()) as server:
        transport = HttpTransport(server.url + "?a=b", Connection({"api-key": "k"}), 5.0)

        assert [transport.send(b"one"), transport.send(b"two")] == [None, None]
        transport.close()

    assert [got.body for got in server.posts] == [b"one", b"two"]
    assert server.posts[0].target == "/v1/traces?a=b"
    assert server.posts[0].headers["content-type"] == "application/x-protobuf"
    assert server.posts[0].headers["api-key"] == "k"
    assert len(server.callers) == 1


def test_an_export_is_compressed_where_that_is_asked_for() -> None:
    with serving(Server()) as server:
        for compression in ("gzip", "deflate"):
            post(server.url, b"spans", Connection(compression=compression))

    one, other = server.posts
    assert (one.headers["content-encoding"], gzip.decompress(one.body)) == ("gzip", b"spans")
    assert (other.headers["content-encoding"], zlib.decompress(other.body)) == (
        "deflate", b"spans",
    )  # fmt: skip


def test_a_connection_that_the_collector_has_closed_meanwhile_costs_nothing() -> None:
    with (
        serving(Server(keeps=False)) as server,
        closing(HttpTransport(server.url, Connection(), 5.0)) as transport,
    ):
        assert [transport.send(b"x") for _ in range(5)] == [None] * 5

    assert len(server.callers) == 5


@pytest.mark.parametrize(("status", "why"), [(503, "503 Service Unavailable"), (308, "308 Perm")])
def test_a_collector_that_refuses_is_quoted(status: int, why: str) -> None:
    with serving(Server(status)) as server:
        told = post(server.url, b"x", Connection())

    assert told is not None
    assert told.startswith(why)
    assert len(server.posts) == 1


def test_nobody_there_and_nobody_answering_are_told_apart() -> None:
    with nobody() as endpoint:
        told = post(f"{endpoint}/v1/traces", b"x", Connection())
    assert told is not None
    assert "refused" in told

    with silence() as endpoint:
        told = post(f"{endpoint}/v1/traces", b"x", Connection(), 0.05)
    assert told == "no answer within 0.05 s"


def test_closing_interrupts_a_post_that_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
        transport = HttpTransport(url, Connection(), 60.0)
        told: list[str | None] = []
        work = threading.Thread(target=lambda: told.append(transport.send(b"x")), daemon=True)
        work.start()
        collector, _ = listener.accept()
        collector.recv(1)

        transport.close()
        work.join(DEADLINE_S)
        collector.close()

    assert len(told) == 1
    assert told[0] is not None
    assert transport.send(b"x") == "it was closed"


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("no_proxy", "inside.example")
        url = "http://collector.example:4318/v1/traces"

        assert post(url, b"x", Connection()) is None

    assert proxy.posts[0].target == url
    assert proxy.posts[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize("given", ["me:secret@proxy:port", "http://[secret", "http://se cret"])
def test_a_proxy_that_is_no_address_is_told_and_not_quoted(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", given)

    with pytest.raises(BadProxy, match="HTTP_PROXY names is not an address") as caught:
        post("http://collector.example/v1/traces", b"x", Connection())

    assert "cret" not in str(caught.value)


def test_a_user_in_the_collectors_address_is_who_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server()) as server:
        url = server.url.replace("http://", "http://me:p%40ss@")
        assert post(url, b"x", Connection()) is None
        assert post(url, b"x", Connection({"authorization": "Bearer t"})) is None
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{server.server_port}")
        assert post("http://me:pw@collector.example/v1/traces", b"x", Connection()) is None

    direct, told, by_proxy = server.posts
    assert direct.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert told.headers["authorization"] == "Bearer t"
    assert by_proxy.headers["authorization"] == "Basic bWU6cHc="
    assert by_proxy.target == "http://collector.example/v1/traces"
    assert by_proxy.headers["host"] == "collector.example"


def test_no_proxy_is_used_where_it_is_told_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Server()) as server:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")

        assert post(server.url, b"x", Connection()) is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, signed by itself; the file has the key, too."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [*MADE.split(), "-keyout", str(path), "-out", f"{path}.crt"],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def with_tls(server: Server, certificate: Path) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme = "https"
    return server


def test_with_tls_a_closed_connection_costs_nothing_either(certificate: Path) -> None:
    known = Connection(certificate=str(certificate))
    with (
        serving(with_tls(Server(keeps=False), certificate)) as server,
        closing(HttpTransport(server.url, known, 5.0)) as transport,
    ):
        assert [transport.send(1_000_000 * b"x") for _ in range(5)] == [None] * 5

    assert len(server.callers) == 5


def test_with_tls_only_a_collector_that_is_vouched_for_gets_anything(certificate: Path) -> None:
    with serving(with_tls(Server(), certificate)) as server:
        strange = post(server.url, b"x", Connection())
        known = post(server.url, b"y", Connection(certificate=str(certificate)))

    assert strange is not None
    assert "certificate verify failed" in strange
    assert known is None
    assert [got.body for got in server.posts] == [b"y"]
