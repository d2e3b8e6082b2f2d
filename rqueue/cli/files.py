"""`rqueue apply`: queues and pools as files say."""

import sys

import click


@click.command()
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
