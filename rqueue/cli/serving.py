"""Commands that run the service, or look after it by its own settings: they do not ask it over HTTP."""

import logging
import re
import sys
from typing import NoReturn

import click

from rqueue import __version__
from rqueue.errors import NotReady, Refused, Unavailable


class _Configured(click.Command):
    """A command whose help ends with the settings of the service."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from rqueue.config import PREFIX, SETTINGS

        formatter.write_paragraph()
        with formatter.indentation():
            for setting in SETTINGS:
                formatter.write(f"  {PREFIX}{setting.name}={setting.default}\n      {setting.help}\n")


def _refuse(message: str) -> NoReturn:
    click.echo(f"rqueue: {message}", err=True)
    sys.exit(2)


@click.command(cls=_Configured)
def serve() -> None:
    """Run the service. It is configured by environment variables only."""
    from rqueue import app, config
    from rqueue.cli.logs import log_as

    try:
        settings = config.read()
        log_as(settings.log_format, settings.log_level)
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
    from rqueue import app, config
    from rqueue.cli.logs import log_as
    from rqueue.supervisor import Line

    try:
        line = Line()
    except Refused as error:
        _refuse(error.message)
    try:
        settings = config.read()
        log_as(settings.log_format, settings.log_level, worker=line.worker)
        app.work(settings, line)
    except Refused as error:
        # The supervisor shows it, once for all workers.
        line.refuses(error.message)
        sys.exit(2)


@click.command()
def healthcheck() -> None:
    """Ask the service that runs here, by the same settings, whether it is ready: status 0, else 1."""
    from rqueue import config
    from rqueue.probe import ask

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
    """Find what the keys in Redis do not agree about, by the service's own settings, while it runs.

    \b
    Status 0: nothing was found, or all of it is mended.
    Status 1: something was found.
    Status 2: it could not be looked at.
    """
    from dataclasses import asdict

    import orjson
    from rich.progress import Progress, TimeElapsedColumn

    from rqueue import app, config
    from rqueue.cli.output import progress_console
    from rqueue.store.check import FAULTS, Fault

    left = 0

    def found(fault: Fault) -> None:
        nonlocal left
        left += not fault.mended
        write(orjson.dumps(asdict(fault)).decode() if as_json else line(fault))

    def line(fault: Fault) -> str:
        what, mend = FAULTS[fault.code]
        about = f" ({fault.about})" if fault.about else ""
        done = "mended: " if fault.mended else ""
        return clean(f"{fault.code} {fault.key}: {what}{about}; {done}{mend}")

    columns = ("[progress.description]{task.description}", "{task.completed} jobs", TimeElapsedColumn())
    try:
        settings = config.read()
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("looking", total=None)
            app.check(settings, found, repair, types, lambda jobs: progress.advance(task, jobs))
    except (Refused, Unavailable) as error:
        _refuse(error.message)
    sys.exit(1 if left else 0)


@click.command()
@click.option(
    "--once", is_flag=True, help="End when the job is done, instead of leaving the service running."
)
def demo(once: bool) -> None:
    """Show the main job on a service of its own: a pool, jobs, a move, callbacks, releases."""
    from rqueue.demo import run

    sys.exit(run(once))
