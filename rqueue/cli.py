"""The command line."""

import logging
import re
import sys
from dataclasses import asdict
from pathlib import Path

import click
import orjson
from pythonjsonlogger.orjson import OrjsonFormatter

from rqueue import __version__, app, config, tokens
from rqueue.domain.caller import Role
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """rqueue: the waiting line for scarce cluster capacity."""


@main.command(
    epilog="\b\n" + "\n".join(f"RQUEUE_{s.name}={s.default}\n    {s.help}" for s in config.SETTINGS)
)
def serve() -> None:
    """Run the service. It is configured by environment variables only:"""
    try:
        settings = config.read()
        _log_as(settings.log_format, settings.log_level)
        app.serve(settings, _started)
    except Refused as error:
        click.echo(f"rqueue: {error.message}", err=True)
        sys.exit(2)


@main.command(hidden=True)
def worker() -> None:
    """One of the processes of `serve`, which starts it and tells it the rest: see rqueue.supervisor."""
    try:
        line = Line()
    except Refused as error:
        click.echo(f"rqueue: {error.message}", err=True)
        sys.exit(2)
    try:
        settings = config.read()
        _log_as(settings.log_format, settings.log_level, worker=line.worker)
        app.work(settings, line)
    except Refused as error:
        # The supervisor shows it, once for all workers.
        line.refuses(error.message)
        sys.exit(2)


@main.command()
def healthcheck() -> None:
    """Ask the service that runs here, by the same settings, whether it is ready: status 0, else 1."""
    try:
        settings = config.read()
        ask(settings.host, settings.port, tls=settings.tls_cert_file is not None)
    except (Refused, NotReady) as error:
        click.echo(f"rqueue: {error.message}", err=True)
        sys.exit(1)


@main.command()
@click.option("--repair", is_flag=True, help="Mend what is found. Nothing is deleted: see docs/repair.md.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, instead of text for people.")
@click.option("--type", "types", multiple=True, help="Only this type; again for more; none: all there are.")
def check(repair: bool, as_json: bool, types: tuple[str, ...]) -> None:
    """Find what the keys in Redis do not agree about, by the service's own settings, while it runs.

    \b
    Status 0: nothing was found, or all of it is mended.
    Status 1: something was found.
    Status 2: it could not be looked at.
    """
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    left = 0

    def found(fault: Fault) -> None:
        nonlocal left
        left += not fault.mended
        line = orjson.dumps(asdict(fault)).decode() if as_json else _line(fault)
        console.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False)

    columns = ("[progress.description]{task.description}", "{task.completed} jobs", TimeElapsedColumn())
    console = Console()
    try:
        settings = config.read()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("looking", total=None)
            app.check(settings, found, repair, types, lambda jobs: progress.advance(task, jobs))
    except (Refused, Unavailable) as error:
        click.echo(f"rqueue: {error.message}", err=True)
        sys.exit(2)
    sys.exit(1 if left else 0)


def _line(fault: Fault) -> str:
    what, mend = FAULTS[fault.code]
    about = f" ({fault.about})" if fault.about else ""
    done = "mended: " if fault.mended else ""
    return f"{fault.code} {fault.key}: {what}{about}; {done}{mend}"


def _started(url: str, redis_url: str) -> None:
    # Without what a URL of Redis may hold of a password, before the host or among the options.
    shown = re.sub("//[^/]*@", "//", redis_url.partition("?")[0])
    message = f"rqueue {__version__} listens on {url}, its Redis is {shown}"
    logging.getLogger("rqueue").info(message, extra={"url": url})


@main.command()
@click.option(
    *("-f", "--file", "files"),
    multiple=True,
    required=True,
    help="YAML of queues and pools; again for more; - is the standard input.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="End pools, and reset settings, that the queues do not name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, instead of text for people.")
def apply(files: tuple[str, ...], dry_run: bool, prune: bool, as_json: bool) -> None:
    """Make queues and pools what files say: of the service at RQUEUE_URL, with the token RQUEUE_TOKEN.

    \b
    Status 0: it is so now; with --dry-run: it is so already.
    Status 1: with --dry-run: something would change.
    Status 2: it could not be done, or not all of it; what was done is shown.
    """
    from rqueue.applying import run

    sys.exit(run(files, dry_run, prune, as_json))


@main.group()
def token() -> None:
    """Tokens for RQUEUE_TOKENS_FILE."""


@token.command()
@click.option("--name", required=True, help="Whose it is; it stands in the events of what was done with it.")
@click.option(
    "--role", required=True, type=click.Choice([role.value for role in Role]), help="What it may do."
)
@click.option("--type", "types", multiple=True, help="A type that it is for; again for more; none: all.")
@click.option(
    "--owner", "owners", multiple=True, help="An owner that it speaks for; again for more; none: all."
)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="The tokens file to add it to.")
def new(name: str, role: str, types: tuple[str, ...], owners: tuple[str, ...], file: Path | None) -> None:
    """Make a token. It is shown once, and kept nowhere: the file has its SHA-256."""
    try:
        secret, entry = tokens.make(name, role, types, owners)
        if file is None:
            click.echo(
                f"# the token, for the client: {secret}\n# its entry, for the list `tokens` of the file:\n"
                f"{entry}",
                nl=False,
            )
        else:
            tokens.add(file, entry)
            click.echo(secret)
    except Refused as error:
        click.echo(f"rqueue: {error.message}", err=True)
        sys.exit(2)


@main.command()
@click.option(
    "--once", is_flag=True, help="End when the job is done, instead of leaving the service running."
)
def demo(once: bool) -> None:
    """Show the main job on a service of its own: a pool, jobs, a move, callbacks, releases."""
    from rqueue.demo import run

    sys.exit(run(once))
