"""Who may ask the page, and from where: every request passes here before anything looks at it.

A site that a browser has open elsewhere must not reach the page: the Host header must be an
address, localhost, or a name of this machine, or a name on the network that is pointed here (DNS
rebinding) would do; a form must come from the page itself (Origin) and bring a secret that belongs
to the browser's cookie (CSRF).
"""

import dataclasses
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tf_hypoperfusion.serving.server import bearer

BROWSER, LOGIN = "hypoperfusion_browser", "hypoperfusion_login"
LOGIN_S = 12 * 3600
OPEN_TO_ALL = ("/login", "/favicon.ico", "/static/page.css", "/static/page.js")
# Nothing from anywhere else, nothing inline, in nobody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report brings all it needs and runs its own viewer, as if it were of another site.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval' blob:; worker-src blob:; connect-src data: blob:; "
    "font-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # With no-referrer a browser's own forms would come from nowhere.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """Of one page.

    Attributes:
        names: that browsers may use for this machine, besides localhost and addresses.
        token: the password; None where none is asked for.
    """

    names: tuple[str, ...] = ()
    token: str | None = None


class Guard:
    """The application with these rules before it.

    Args:
        app: that answers.
        rules: of the page.
    """

    def __init__(self, app: ASGIApp, rules: Rules):
        self._app, self._rules = app, rules
        self._names = {"localhost", *(name.lower() for name in rules.names)}
        self._secret = secrets.token_bytes(32)
        self._logins: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        known = request.cookies.get(BROWSER, "")
        browser = known if re.fullmatch("[0-9a-f]{32}", known) else secrets.token_hex(16)
        scope["guard"] = self
        scope["csrf"] = self._mac(browser)
        token, header = self._rules.token, request.headers.get("authorization", "")
        scope["by_bearer"] = token is not None and bearer.is_token(header, token)
        refused = self._refused(request)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if "content-security-policy" not in headers:
                    headers["Content-Security-Policy"] = POLICY
                    headers["X-Frame-Options"] = "DENY"
                    headers["Cross-Origin-Opener-Policy"] = "same-origin"
                if browser != known and not refused:
                    headers.append("Set-Cookie", cookie(BROWSER, browser, request))
            await send(message)

        await (refused or self._app)(scope, receive, with_headers)

    def _refused(self, request: Request) -> Response | None:
        host = _host(request.headers.get("host", ""))
        if host is None or not (host in self._names or _is_address(host)):
            return PlainTextResponse(
                "This page is not known by that name. Call it by its address, or give the name to "
                "it when it is started (--names, or page.names of node.yaml).\n", 403,
            )  # fmt: skip
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin")
            site = request.headers.get("sec-fetch-site", "same-origin")
            if (origin is not None and not _is_of(origin, request)) or site != "same-origin":
                return PlainTextResponse("This form comes from another site.\n", 403)
        if (
            self._rules.token is None
            or request.url.path in OPEN_TO_ALL
            or request.scope["by_bearer"]
            or self.is_logged_in(request)
        ):
            return None
        if request.method in ("GET", "HEAD"):
            return RedirectResponse("/login", 303)
        return PlainTextResponse("Log in first.\n", 401)

    def _mac(self, browser: str) -> str:
        return hmac.new(self._secret, browser.encode(), hashlib.sha256).hexdigest()

    @property
    def asks_for_token(self) -> bool:
        """Whether one must log in."""
        return self._rules.token is not None

    def is_token(self, given: str) -> bool:
        """Whether this is the password; takes as long whatever it is.

        Args:
            given: by whoever asks.
        """
        token = self._rules.token
        return token is not None and hmac.compare_digest(given.encode(), token.encode())

    def log_in(self) -> str:
        """A new login; returns its cookie's value."""
        now_s = time.monotonic()
        self._logins = {key: until for key, until in self._logins.items() if until > now_s}
        key = secrets.token_hex(32)
        self._logins[key] = now_s + LOGIN_S
        return key

    def log_out(self, request: Request) -> None:
        """End the login of a browser."""
        self._logins.pop(request.cookies.get(LOGIN, ""), None)

    def is_logged_in(self, request: Request) -> bool:
        """Whether a browser has given the password."""
        return self._logins.get(request.cookies.get(LOGIN, ""), 0.0) > time.monotonic()


def is_own_form(request: Request, csrf: str) -> bool:
    """Whether a form brings the secret of its browser's cookie; who sends a bearer token need not.

    Args:
        request: that brings it.
        csrf: field of the form.
    """
    return request.scope["by_bearer"] or hmac.compare_digest(
        csrf.encode(), request.scope["csrf"].encode()
    )


def asked_for(request: Request) -> str:
    """The address for which a proxy says it asks, the last one that it names; empty without one.

    Args:
        request: whose header whoever connects may have written.
    """
    last = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return last if _is_address(last) else ""


def cookie(name: str, value: str, request: Request, max_age_s: int | None = None) -> str:
    """A cookie that only this page gets, and no script sees.

    Args:
        name: of the cookie.
        value: of the cookie.
        request: that is answered.
        max_age_s: that it is kept; None until the browser ends.
    """
    secure = "; Secure" if request.headers.get("x-forwarded-proto") == "https" else ""
    age = "" if max_age_s is None else f"; Max-Age={max_age_s}"
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}"


def _host(header: str) -> str | None:
    """The name in a Host header, without the port; None where it is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".") or None
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    """No name on the network can be pointed elsewhere where there is no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_of(origin: str, request: Request) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and parts.netloc.lower() == request.headers.get("host", "").lower()
    )
