"""How are many runs looked at in a browser? ``hwprof view DIR --serve``: pages on 127.0.0.1, which change no file."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import click

from hwprof.errors import InputError
from hwprof.report.chinese import Language
from hwprof.report.files.run_list import FILE_TYPES, ListedRun, RunFolder, comparison_page, files_of, list_page
from hwprof.report.html import render_html
from hwprof.report.run.in_chinese import view_in_chinese
from hwprof.report.run.view import build_view

ADDRESS = "127.0.0.1"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""With each answer: nothing is loaded from elsewhere, and no other page may show this one."""
_HTML = "text/html; charset=utf-8"


IDLE_S, WHOLE_S, MOST_AT_ONCE = 10.0, 30.0, 16
"""A client that sends or takes nothing for so long, or is not done after so long, is hung up on; so many at a time."""


class Answer(NamedTuple):
    """What goes back to the browser."""

    status: HTTPStatus
    content_type: str
    body: bytes


class _RefusedError(Exception):
    """The request asks for nothing that is here; says so with a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def serve(root: Path, language: Language = "en") -> None:
    """Serve the runs below ``root`` until Ctrl-C, on a free port of 127.0.0.1.

    Raises:
        InputError: ``root`` is no folder.
    """
    try:
        with server_of(root, language) as server:
            click.echo(f"http://{ADDRESS}:{server.server_port}/ shows the runs below {root} (Ctrl-C ends it)")
            server.serve_forever()
    except KeyboardInterrupt:
        click.echo("ended", err=True)


def server_of(root: Path, language: Language = "en") -> ThreadingHTTPServer:
    """A server that listens and is yet to be run; raises as ``serve`` does."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder", remedy="give a folder that holds run directories")
    return _Server((ADDRESS, 0), functools.partial(_Handler, RunFolder(root.resolve()), language))


class _Server(ThreadingHTTPServer):
    """Answers so many clients at once, none for longer than it should take; the others are turned away."""

    request_queue_size = 4 * MOST_AT_ONCE

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._since_s: dict[socket.socket, float] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin with a client, unless too many are being answered."""
        if len(self._since_s) >= MOST_AT_ONCE:
            with contextlib.suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            super().shutdown_request(request)
            return
        self._since_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """A client is done."""
        self._since_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: hang up on those who have taken too long."""
        for request, since_s in list(self._since_s.items()):
            if time.monotonic() - since_s > WHOLE_S:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news; what else goes wrong has been answered."""


class _Handler(BaseHTTPRequestHandler):
    """One request; only GET and HEAD exist."""

    timeout = IDLE_S
    server_version = "hwprof"
    sys_version = ""

    def __init__(self, folder: RunFolder, language: Language, *args: object) -> None:
        self._folder, self._language = folder, language
        super().__init__(*args)  # type: ignore[arg-type]  # handed through as socketserver gives them

    def do_GET(self) -> None:
        """Send what was asked for."""
        self._send(self._answered(), with_body=True)

    def do_HEAD(self) -> None:
        """Send what is known of it."""
        self._send(self._answered(), with_body=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the signature of http.server)
        """Requests are not printed."""

    def _answered(self) -> Answer:
        try:
            self._check_host()
            return answer(self._folder, self.path, self._language)
        except _RefusedError as refusal:
            return _plain(refusal.status, str(refusal))
        except InputError as error:
            return _plain(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except OSError as error:
            return _plain(HTTPStatus.NOT_FOUND, f"a file is not there any more, or may not be read: {error.strerror}")
        except Exception as error:  # noqa: BLE001 (a record of unknown origin; the others are still to be looked at)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, f"this can't be shown: {type(error).__name__}: {error}")

    def _check_host(self) -> None:
        """A page elsewhere whose name was made to point here (DNS rebinding) names another host; a tunnel, a port."""
        if self.headers.get("Host", "").partition(":")[0] not in {ADDRESS, "localhost"}:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "this server answers only to its own name")

    def _send(self, reply: Answer, *, with_body: bool) -> None:
        self.send_response(reply.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if with_body:
            self.wfile.write(reply.body)


def answer(folder: RunFolder, target: str, language: Language = "en") -> Answer:
    """The answer to a request for ``target``: a path with a query, escaped as in addresses.

    A run is looked up among those that were found, a file among those of its directory: no path is put together from
    what a request says. Reports are made from ``run.json``, so that a page of unknown origin is never run.
    """
    try:
        parts = urlsplit(target)
    except ValueError:
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "this is no address") from None
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if path == "/":
        return _page(list_page(folder, language))
    if path == "/favicon.ico":  # browsers ask for it unbidden
        return Answer(HTTPStatus.NO_CONTENT, "image/x-icon", b"")
    if path == "/compare":
        query = parse_qs(parts.query, errors="surrogateescape")
        a, b = (_run(folder, query.get(name, [""])[0]) for name in ("a", "b"))
        return _page(comparison_page(a, b, language))
    if path.startswith("/runs/"):
        key, _, name = path.removeprefix("/runs/").rpartition("/")
        return _file(_run(folder, key or "."), name, language)
    raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such page; / lists the runs")


def _run(folder: RunFolder, key: str) -> ListedRun:
    run = folder.found().runs.get(key)
    if run is None:
        raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no such run; / lists those that there are")
    return run


def _file(run: ListedRun, name: str, language: Language) -> Answer:
    if name == "report.html":
        view = build_view(run.record)
        return _page(render_html(view_in_chinese(view) if language == "zh" else view, language))
    path = files_of(run).get(name)
    if path is None:
        raise _RefusedError(HTTPStatus.NOT_FOUND, "the run has no such file")
    return Answer(HTTPStatus.OK, FILE_TYPES[path.suffix], path.read_bytes())


def _page(text: str) -> Answer:
    return Answer(HTTPStatus.OK, _HTML, text.encode("utf-8", "replace"))


def _plain(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", (sentence + "\n").encode("utf-8", "replace"))
