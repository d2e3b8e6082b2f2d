"""Commands that run the service, or look after it by its own settings: they do not ask it over HTTP."""

import logging
import re
import sys
from dataclasses import asdict
from typing import NoReturn

import click
import orjson
from pythonjsonlogger.orjson import OrjsonFormatter

from rqueue import __version__, app, config
from rqueue.errors import NotReady, Refused, Unavailable
from rqueue.probe import ask
from rqueue.store.check import FAULTS, Fault
from rqueue.supervisor import Line

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Text(logging.Formatter):
    """One line an event for people, with what was given beside the message as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _RESERVED}
        return " ".join([super().format(record), *(f"{name}={value!r}" for name, value in extra.items())])


def _log_as(written: str, level: str, **always: object) -> None:
    """Log as set; `always` goes with every event."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: vars(record).update(always) or True)
    if written == "json":
        fields = "{asctime}{levelname}{name}{message}"
        handler.setFormatter(
            OrjsonFormatter(
                fields, style="{", rename_fields={"asctime": "time", "levelname": "level", "name": "logger"}
            )
        )
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _refuse(message: str) -> NoReturn:
    click.echo(f"rqueue: {message}", err=True)
    sys.exit(2)


@click.command(
    epilog="\b\n" + "\n".join(f"RQUEUE_{s.name}={s.default}\n    {s.help}" for s in config.SETTINGS)
)
def serve() -> None:
    """Run the service. It is configured by environment variables only:"""
    try:
        settings = config.read()
        _log_as(settings.log_format, settings.log_level)
        app.serve(settings, _started)
    except Refused as error:
        _refuse(error.message)


def _started(url: str, redis_url: str) -> None:
    # Without what a URL of Redis may hold of a password, before the host or among the options.
    shown = re.sub("//[^/]*@", "//", redis_url.partition("?")[0])
    message = f"rqueue {__version__} listens on {url}, its Redis is {shown}"
    logging.getLogger("rqueue").info(message, extra={"url": url})


@click.command(hidden=True)
def worker() -> None:
    """One of the processes of `serve`, which starts it and tells it the rest: see rqueue.supervisor."""
    try:
        line = Line()
    except Refused as error:
        _refuse(error.message)
    try:
        settings = config.read()
        _log_as(settings.log_format, settings.log_level, worker=line.worker)
        app.work(settings, line)
    except Refused as error:
        # The supervisor shows it, once for all workers.
        line.refuses(error.message)
        sys.exit(2)


@click.command()
def healthcheck() -> None:
    """Ask whether the service that runs here is ready.

    By the same settings as `serve`. Status 0 where it is, else 1.
    """
    try:
        settings = config.read()
        ask(settings.host, settings.port, tls=settings.tls_cert_file is not None)
    except (Refused, NotReady) as error:
        click.echo(f"rqueue: {error.message}", err=True)
        sys.exit(1)


@click.command()
@click.option("--repair", is_flag=True, help="Mend what is found. Nothing is deleted: see docs/repair.md.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, instead of text for people.")
@click.option("--type", "types", multiple=True, help="Only this type; again for more; none: all there are.")
def check(repair: bool, as_json: bool, types: tuple[str, ...]) -> None:
    """Find what the keys in Redis do not agree about.

    It looks by the service's own settings, while that runs.

    \b
    Status 0: nothing was found, or all of it is mended.
    Status 1: something was found.
    Status 2: it could not be looked at.
    """
    from rqueue.cli.output import Out, clean

    left, out = 0, Out(as_json)

    def found(fault: Fault) -> None:
        nonlocal left
        left += not fault.mended
        out.line(orjson.dumps(asdict(fault)).decode() if as_json else clean(_line(fault)))

    try:
        settings = config.read()
        with out.progress("jobs looked at", few_lines=True) as advance:
            app.check(settings, found, repair, types, advance)
    except (Refused, Unavailable) as error:
        _refuse(error.message)
    sys.exit(1 if left else 0)


def _line(fault: Fault) -> str:
    what, mend = FAULTS[fault.code]
    about = f" ({fault.about})" if fault.about else ""
    done = "mended: " if fault.mended else ""
    return f"{fault.code} {fault.key}: {what}{about}; {done}{mend}"


@click.command()
@click.option(
    "--once", is_flag=True, help="End when the job is done, instead of leaving the service running."
)
def demo(once: bool) -> None:
    """Show the main job on a service of its own: a pool, jobs, a move, callbacks, releases."""
    from rqueue.demo import run

    sys.exit(run(once))
