"""Who may see the pages: whoever has the token of this start, on this machine, in a page of their own."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

from flask import Flask, Response, abort, redirect, request
from werkzeug.wsgi import get_host

HOSTS = ["127.0.0.1", "localhost"]
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _random() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Access:
    """The secrets of one start.

    Attributes:
        token: in the URL that the command prints.
        session: in the cookie that the token is changed for.
        form: in every form that changes something.
        cookie: its name; browsers keep one jar for all ports of a host.
    """

    token: str = field(default_factory=_random, repr=False)
    session: str = field(default_factory=_random, repr=False)
    form: str = field(default_factory=_random, repr=False)
    cookie: str = "lakeflow_local"

    def protect(self, app: Flask) -> None:
        """Lets `app` answer nobody else, and nothing without the headers of `_HEADERS`."""
        app.before_request(self._check)
        app.after_request(_with_headers)
        app.context_processor(lambda: {"form_token": self.form})

    def _check(self) -> Response | None:
        get_host(request.environ, HOSTS)  # answers 400 to a name that somebody else's server gave this machine
        if request.method in ("GET", "HEAD") and request.path == "/" and _same(request.args.get("token"), self.token):
            answer = redirect("/", 303)
            answer.set_cookie(self.cookie, self.session, httponly=True, samesite="Strict", path="/")
            return answer
        if not _same(request.cookies.get(self.cookie), self.session):
            abort(403, "open the address with the token that `lakeflow-local ui` has printed")
        if request.method not in ("GET", "HEAD"):
            if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
                abort(403, "this form was sent by another site")
            if not _same(request.form.get("form_token"), self.form):
                abort(403, "this form is of an earlier start; load its page again")
        return None


def _same(given: str | None, wanted: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), wanted.encode())


def _with_headers(answer: Response) -> Response:
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer
