"""Who may use the server: this machine's user, by a one-time address, from the server's own page.

    guard = Guard(app, port=8000, say=print)
    guard.address()             # http://127.0.0.1:8000/?token=...; it works once

Any web page that the user visits can send requests to a server on this machine. So each request
must name this server as its host and carry the cookie of a session; a request that changes
something must also come from the server's own page. The network beyond this machine is not served.
"""

import json
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode

HEADER = b"x-nuclei"  # a page of another origin cannot send it without being asked about first
MAX_BODY = 2_000_000  # bytes of a request; an upload has a limit of its own
MAX_UPLOAD = 2_000_000_000
UPLOAD_PATH = "/api/images"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
EXPIRED = (
    "This address was used already, or the server was started anew. The terminal shows a new one."
)
TOO_LARGE = "This is larger than the server takes."


class TooLarge(Exception):
    """A body is larger than allowed."""


class Guard:
    """An ASGI application around the server's own.

    Args:
        app: the application.
        port: of the server.
        say: is told each new address after one was used.
    """

    def __init__(self, app: Callable, port: int, say: Callable[[str], object] = print) -> None:
        self.app, self.say = app, say
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self.port = port
        self.cookie = f"nuclei_{port}"  # browsers do not keep the cookies of two ports apart
        self.token = secrets.token_urlsafe(24)
        self.sessions: set[str] = set()

    def address(self) -> str:
        """The address that opens the page once."""
        return f"http://127.0.0.1:{self.port}/?{urlencode({'token': self.token})}"

    async def __call__(self, scope, receive, send) -> None:
        """Refuse a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])

        async def send_guarded(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        fault = self.fault(scope, headers)
        if fault:
            await respond(send_guarded, *fault)
        elif scope["path"] == "/" and b"token=" in scope["query_string"]:
            await self.open_session(scope, headers, send_guarded)
        elif not self.has_session(headers):
            await respond(send_guarded, 401, EXPIRED, is_read=scope["path"] == "/")
        else:
            await self.pass_on(scope, receive, send_guarded)

    def fault(self, scope, headers) -> tuple[int, str] | None:
        """(status, message) where a request is refused, with or without a session; else None."""
        host = headers.get(b"host", b"").decode("latin-1")
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if host not in self.hosts or len(hosts) != 1:
            return 421, "This server answers to its own address only."
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "Only GET and POST are known here."
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin != f"http://{host}" or headers.get(HEADER) != b"1":
            return 403, "This request does not come from the page of this server."
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > max_body(scope):
            return 413, TOO_LARGE
        return None

    async def open_session(self, scope, headers, send) -> None:
        """Take the token, once, and answer with the cookie of a session."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            if self.has_session(headers):  # the address that this browser opened before
                await respond(send, 303, "", [(b"location", b"/")])
            else:
                await respond(send, 401, EXPIRED, is_read=True)
            return
        self.token = secrets.token_urlsafe(24)
        session = secrets.token_urlsafe(24)
        self.sessions.add(session)
        cookie = f"{self.cookie}={session}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"set-cookie", cookie.encode()), (b"location", b"/")]
        self.say(f"Another browser: {self.address()}")
        await respond(send, 303, "", headers)

    def has_session(self, headers) -> bool:
        """Whether a request carries the cookie of a session."""
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        given = cookies[self.cookie].value if self.cookie in cookies else ""
        return any(
            secrets.compare_digest(given.encode(), session.encode()) for session in self.sessions
        )

    async def pass_on(self, scope, receive, send) -> None:
        """Let the application answer; a body that grows over its limit raises `TooLarge` there."""
        left = max_body(scope)

        async def receive_limited():
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge
            return message

        await self.app(scope, receive_limited, send)


def max_body(scope) -> int:
    """The largest body of a request in bytes."""
    return MAX_UPLOAD if scope["path"] == UPLOAD_PATH else MAX_BODY


async def respond(send, status: int, text: str, headers=(), is_read: bool = False) -> None:
    """Answer with one sentence: as JSON for the page, or as text that a user reads."""
    kind, body = b"application/json", json.dumps({"message": text}).encode()
    if is_read:
        kind, body = b"text/plain; charset=utf-8", text.encode()
    start = {"status": status, "headers": [(b"content-type", kind), *headers]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body})
