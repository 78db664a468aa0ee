"""Yahoo, played by a proxy on 127.0.0.1, for the unmodified program in a process of its own.

The proxy terminates TLS with a throwaway CA, so nothing but :meth:`YahooProxy.environment` tells
the program that it is not talking to Yahoo::

    with YahooProxy(tmp_path) as yahoo:
        yahoo.answer(BATCH, Answer(status=429), Answer(batch(entry("AAPL"), entry("MSFT"))))
        subprocess.run([...], env={**os.environ, **yahoo.environment()})
        assert len(yahoo.asked(BATCH)) == 2

Cookie and crumb are served unless scripted otherwise; any other path is 404, any host that is not
Yahoo's is refused and shows in ``refused``.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ("*.yahoo.com", "*.finance.yahoo.com")
BATCH = "/v7/finance/quote"
CHART = "/v8/finance/chart/"
"""A symbol completes it."""
STREAMER = "streamer.finance.yahoo.com"


@dataclass(frozen=True)
class Answer:
    """One response. ``body`` that is neither bytes nor text is sent as JSON.

    ``cut`` bytes are announced but not sent; ``hang_up`` closes the connection without an answer;
    ``after_s`` seconds pass before the first byte, unless the client is gone by then.
    """

    body: Any = b""
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int = 0
    hang_up: bool = False
    after_s: float = 0.0

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; a repeated query parameter keeps its first value.

    ``target`` is path and query as they stood in the request.
    """

    host: str
    path: str
    query: dict[str, str]
    target: str = ""


COOKIE = Answer(
    status=404,
    content_type="text/html",
    headers=(("Set-Cookie", "A3=d=throwaway; Max-Age=31557600; Domain=.yahoo.com; Path=/"),),
)
CRUMB = Answer("throwaway.crumb", content_type="text/plain")
NOT_FOUND = Answer("Not Found", status=404, content_type="text/plain")


def entry(symbol: str, **fields: Any) -> dict[str, Any]:
    """One symbol of the batch quote, Wednesday 2025-10-29 at New York's close, with ``fields``."""
    return {
        "symbol": symbol,
        "quoteType": "EQUITY",
        "currency": "USD",
        "marketState": "CLOSED",
        "regularMarketTime": 1761768001,
        "regularMarketPrice": 269.7,
        "regularMarketOpen": 269.28,
        "regularMarketDayHigh": 271.41,
        "regularMarketDayLow": 267.11,
        "regularMarketPreviousClose": 269.0,
        "regularMarketVolume": 43332154,
        "gmtOffSetMilliseconds": -14400000,
        "exchangeTimezoneName": "America/New_York",
        **fields,
    }


def batch(*entries: Any) -> dict[str, Any]:
    """The batch quote's payload."""
    return {"quoteResponse": {"result": list(entries), "error": None}}


def chart(symbol: str, *, bars: bool = True) -> dict[str, Any]:
    """The history of the same day in minutes; without ``bars``, as on a day without trading."""
    opened = 1761744600
    session = {"timezone": "EDT", "start": opened, "end": opened + 23400, "gmtoffset": -14400}
    prices = {"open": 269.28, "high": 270.1, "low": 269.1, "close": 269.4, "volume": 1000}
    result: dict[str, Any] = {
        "meta": {
            "currency": "USD",
            "symbol": symbol,
            "instrumentType": "EQUITY",
            "regularMarketTime": 1761768001,
            "regularMarketPrice": 269.7,
            "regularMarketDayHigh": 271.41,
            "regularMarketDayLow": 267.11,
            "regularMarketVolume": 43332154,
            "chartPreviousClose": 269.0,
            "previousClose": 269.0,
            "gmtoffset": -14400,
            "timezone": "EDT",
            "exchangeTimezoneName": "America/New_York",
            "currentTradingPeriod": dict.fromkeys(("pre", "regular", "post"), session),
            "tradingPeriods": [[session]],
            "dataGranularity": "1m",
            "range": "1d",
            "validRanges": ["1d", "5d"],
        },
        "indicators": {"quote": [{}]},
    }
    if bars:
        result["timestamp"] = [opened, opened + 60]
        result["indicators"]["quote"] = [{name: [value, None] for name, value in prices.items()}]
    return {"chart": {"result": [result], "error": None}}


def no_such_symbol() -> dict[str, Any]:
    """What the history of a symbol that Yahoo does not know is, with status 404."""
    error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
    return {"chart": {"result": None, "error": error}}


class YahooProxy:
    """A context manager; ``directory`` receives the CA's certificate and the server's key."""

    def __init__(self, directory: Path) -> None:
        self.refused: list[str] = []
        self.stream: Callable[[socket.socket], None] | None = None
        """Talks to whoever connects to :data:`STREAMER`; see tests/yahoo_socket.py."""
        self._asked: list[Asked] = []
        self._lock = threading.Lock()
        self._answers: dict[str, list[Answer]] = {}
        self.answer("/v1/test/getcrumb", CRUMB)
        self._ca, chain = _certificates(directory)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(chain)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        # Joined by server_close: a thread that outlives its test would be blamed on another one.
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, *answers: Answer) -> None:
        """Script what requests of exactly this path get, in turn; the last one repeats."""
        self._answers[path] = list(answers)

    def asked(self, path: str | None = None) -> list[Asked]:
        """The requests so far, of this path or all of them."""
        with self._lock:
            return [request for request in self._asked if path in (None, request.path)]

    def environment(self) -> dict[str, str]:
        """What a process needs so that its requests to Yahoo end here."""
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY"), address),
            **dict.fromkeys(("CURL_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), self._ca),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        }

    def _next(self, request: Asked) -> Answer:
        with self._lock:
            self._asked.append(request)
            if request.host == "fc.yahoo.com":
                return COOKIE
            answers = self._answers.get(request.path, [NOT_FOUND])
            return answers.pop(0) if len(answers) > 1 else answers[0]

    @staticmethod
    def _client_left(connection: socket.socket, within_s: float) -> bool:
        """Wait, and whether the client hung up: it has nothing to say before the answer."""
        with selectors.DefaultSelector() as looking:  # select() takes no descriptor over 1023
            looking.register(connection, selectors.EVENT_READ)
            return bool(within_s) and bool(looking.select(within_s))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20
            host = ""

            def do_CONNECT(self) -> None:
                self.host = self.path.rpartition(":")[0]
                if not self.host.endswith(".yahoo.com"):
                    proxy.refused.append(self.host)
                    self.send_error(403)
                    return
                self.send_response(200)
                self.end_headers()
                self.rfile.close()
                try:
                    self.connection = proxy._tls.wrap_socket(self.connection, server_side=True)
                except (ssl.SSLError, ConnectionError):  # the client does not trust our CA
                    self.close_connection = True
                    return
                if self.host == STREAMER and proxy.stream is not None:
                    proxy.stream(self.connection)
                    self.close_connection = True
                    return
                self.rfile = self.connection.makefile("rb")
                self.wfile = self.connection.makefile("wb")
                self.close_connection = False

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(url.query).items()}
                answer = proxy._next(Asked(self.host, url.path, query, self.path))
                if answer.hang_up or proxy._client_left(self.connection, answer.after_s):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.content) + answer.cut))
                for header in answer.headers:
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(answer.content)
                self.close_connection = answer.cut > 0

            do_POST = do_GET  # noqa: N815

            def finish(self) -> None:
                super().finish()
                self.connection.close()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Keep quiet: ``asked`` is the log."""

        return Handler


def _certificates(directory: Path) -> tuple[str, Path]:
    """Make a CA and a server certificate that are valid for a day.

    Returns the paths of the CA's certificate and of the server's certificate with its key.
    """
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stockpipe test CA")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Yahoo, played")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        builder(name, key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_file, chain_file = directory / "yahoo-ca.pem", directory / "yahoo-server.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    chain_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + server.public_bytes(serialization.Encoding.PEM)
    )
    return str(ca_file), chain_file


def _key_usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
