"""rq-dashboard for this installation, on loopback only: what the Procfile's `dashboard:` starts.

`python -m cronq.dashboard` takes the Redis of cronq's own settings and the port of $PORT. When it cannot serve it
says why and stays, because a Procfile runner ends all its processes when one of them ends.
"""

from __future__ import annotations

import html
import logging
import os
import re
import signal
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from cronq.app.dashboard import connect, read_data_only, requeue
from cronq.config import Config, environment
from cronq.errors import ConfigError

if TYPE_CHECKING:
    from flask import Flask

_ADDRESS = "127.0.0.1"
_PORT = 9181
#: The names of loopback; a page elsewhere whose own name leads here must not be served (DNS rebinding).
_HERE = ("127.0.0.1", "localhost", "[::1]")
#: Names in paths. Their templates put them into scripts, and a link with more than a name in it runs there.
_NAME = re.compile(r"[A-Za-z0-9_.@:-]+")
#: Not in a frame, where somebody else's page has the buttons pressed. Their templates are compiled in the browser,
#: which is what `unsafe-eval` is for.
_GUARDS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}
_REMEDY = "pip install rq-dashboard six"


def main() -> int:
    """Serve until told to end; the exit code."""
    try:
        config, port = Config.load(), _port(environment().get("PORT"))
    except ConfigError as error:
        click.echo(f"cronq: {error}", err=True)
        return 78
    try:
        read_data_only()
        app = make_app(config.url)
    except ImportError as error:
        return _stay(f"no dashboard: the package {error.name} is not installed; {_REMEDY}")
    try:
        listening = socket.create_server((_ADDRESS, port))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        return _stay(f"no dashboard: cannot listen on {_ADDRESS}:{port}: {why}; set PORT")
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # the page asks every 2.5 s
    server = make_server(_ADDRESS, port, app, threaded=True, fd=listening.fileno())
    click.echo(f"cronq: dashboard on http://{_ADDRESS}:{port}/ of {config.shown_url}", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to end by a supervisor, as by Ctrl-C
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    return 0


def _port(text: str | None) -> int:
    if not text:
        return _PORT
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise ConfigError(f"PORT {text!r} (from environment PORT): a number from 1 to 65535")


def _stay(words: str) -> int:
    """Say why there is nothing to serve, and wait to be told to end."""
    click.echo(f"cronq: {words}; waiting, so that beat and worker go on", err=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


def make_app(url: str) -> Flask:
    """rq-dashboard on the Redis *url*, with what it leaves open closed. Raises ImportError without its packages."""
    import six  # noqa: F401 - rq-dashboard imports it without bringing it
    from rq_dashboard import web
    from rq_dashboard.cli import make_flask_app

    web.from_url = connect  # type: ignore[attr-defined]
    web.requeue_job = requeue  # type: ignore[attr-defined, assignment]
    app: Flask = make_flask_app(None, None, None, "")
    app.config["RQ_DASHBOARD_REDIS_URL"] = url
    app.config.setdefault("DEPRECATED_OPTIONS", [])
    web.setup_rq_connection(app)
    _close(app)
    return app


def _close(app: Flask) -> None:
    """Keep other sites' pages out, show texts of jobs as text, and answer 404 for what has expired."""
    from flask import Response, abort, request
    from rq.exceptions import NoSuchJobError

    app.jinja_env.autoescape = True  # in their scripts too, which Flask leaves as they are

    @app.before_request
    def only_from_here() -> None:
        if re.sub(r":\d+$", "", request.host) not in _HERE:
            abort(403, "this dashboard answers to 127.0.0.1 and localhost only")
        is_reading = request.method in ("GET", "HEAD", "OPTIONS")
        origin = request.headers.get("Origin")
        if not is_reading and origin is not None and urlsplit(origin).netloc != request.host:
            abort(403, "this came from another site's page")
        if not is_reading and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            abort(403, "this came from another site's page")
        if is_reading and request.endpoint == "rq_dashboard.requeue_all":
            abort(405)
        for part, value in (request.view_args or {}).items():
            if part != "filename" and isinstance(value, str) and not _NAME.fullmatch(value):
                abort(404, "no queue, registry or job has such a name")

    @app.after_request
    def with_guards(response: Response) -> Response:
        response.headers.update(_GUARDS)
        return response

    # Their pages put these into HTML as they are; the lists of jobs escape for themselves.
    for endpoint in ("job_info", "list_workers", "list_queues"):
        _show_as_text(app, f"rq_dashboard.{endpoint}")

    @app.errorhandler(NoSuchJobError)
    def gone(error: Exception) -> tuple[str, int]:
        return "RQ has no record of this run any more; `cronq history` may.", 404


def _show_as_text(app: Flask, endpoint: str) -> None:
    from flask import jsonify

    view: Any = app.view_functions[endpoint]

    def escaped(**arguments: Any) -> Any:
        response, headers = view(**arguments)
        return jsonify(_escaped(response.get_json())), headers

    app.view_functions[endpoint] = escaped


def _escaped(value: Any) -> Any:
    """*value* with each text in it escaped for HTML, names of fields and attributes included."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {html.escape(name): _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value
