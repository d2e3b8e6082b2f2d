"""`rqueue token`: what goes into RQUEUE_TOKENS_FILE."""

import sys
from pathlib import Path

import click

from rqueue import tokens
from rqueue.domain.caller import Role
from rqueue.errors import Refused


@click.group()
def token() -> None:
    """Make tokens for RQUEUE_TOKENS_FILE."""


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
