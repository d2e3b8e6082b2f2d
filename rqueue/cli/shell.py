"""`rqueue completion`: what a shell needs to complete commands, types and jobs."""

import sys

import click
from click.shell_completion import get_completion_class

# What the variable is named by which the script asks; click makes it of the program's name.
VARIABLE = "_RQUEUE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what has a shell complete commands and jobs.

    \b
    bash: eval "$(rqueue completion bash)"          in ~/.bashrc
    zsh:  eval "$(rqueue completion zsh)"           in ~/.zshrc
    fish: rqueue completion fish > ~/.config/fish/completions/rqueue.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        sys.exit(2)
    click.echo(kind(ctx.find_root().command, {}, "rqueue", VARIABLE).source())
