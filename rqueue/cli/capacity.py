"""Pools and what is used of them; queues that stand still; what would be if they were different."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from rqueue.cli.asking import Asking, amounts, asks, each, is_no, read_json, told
from rqueue.cli.names import TYPE, TYPES
from rqueue.cli.names import pools as pool_names
from rqueue.cli.output import Cell, Column, Out, Table, age, bar, clean
from rqueue.client import Failed, Pool
from rqueue.domain.demand import amount, quantity
from rqueue.errors import Refused

# From these shares on it is getting full.
FULL, NEARLY = 1.0, 0.8
_PLACED = (Column("JOB", least=12), Column("OWNER", least=8), Column("POOL", least=8))


@click.command()
@TYPE
@click.argument("pool", metavar="[POOL]", required=False, shell_complete=pool_names)
@asks
async def pools(ask: Asking, type_: str, pool: str | None) -> int:
    """Show pools: what their hosts have, and what is used."""
    if pool is not None:
        _write(ask, await ask.client.pool(type_, pool), owners=True)
        return 0
    names = (await ask.client.queue(type_)).pools
    if not names and not ask.out.json:
        click.echo("no pool is declared", err=True)
    status = 0
    for place, name in enumerate(names):
        try:
            found = await ask.client.pool(type_, name)
        except Failed as error:
            # One that somebody deletes meanwhile, or that is damaged, hides no other.
            if not is_no(error) and error.code != "store_damaged":
                raise
            status = told(error)
            continue
        if place and not ask.out.json:
            ask.out.line()
        _write(ask, found, owners=False)
    return status


def _write(ask: Asking, pool: Pool, owners: bool) -> None:
    if ask.out.json:
        ask.out.document(pool.document)
        return
    waits = f"{pool.waiting} wait{'s' if pool.waiting == 1 else ''}"
    projects = f", for {', '.join(pool.projects)}" if pool.projects else ""
    ask.out.line(f"{ask.out.paint(clean(pool.name), 'bold')}: {waits}{clean(projects)}")
    if pool.source is not None:
        found_by = ", ".join(f"{name} {value}" for name, value in pool.source.items())
        seen = f"read {age(pool.observed)} ago" if pool.observed else "never read"
        ask.out.line(f"  {clean(found_by)}, {seen}")
    if pool.error:
        ask.out.line("  " + ask.out.paint(clean(pool.error), "red"))
    for line in _hosts(ask.out, pool):
        ask.out.line(line)
    if owners and pool.usage:
        ask.out.line()
        rows = [
            (owner, _listed(held), _listed(pool.quotas.get(owner, pool.quotas.get("*", {}))))
            for owner, held in pool.usage.items()
        ]
        Table(ask.out, Column("OWNER", least=8), Column("HOLDS", least=8), Column("OF", least=4)).write(rows)


def _hosts(out: Out, pool: Pool) -> Iterator[str]:
    if not pool.hosts:
        return
    resources = sorted({name for host in pool.hosts.values() for name in host["capacity"]}, reverse=True)
    fill = {
        host: {name: _filled(name, has) for name in resources if name in has["capacity"]}
        for host, has in pool.hosts.items()
    }
    columns = [Column("HOST", least=8), *(Column(name, least=5) for name in resources)]
    rows: list[Sequence[str | Cell]] = [
        (host, *(filled.get(name, "") for name in resources)) for host, filled in fill.items()
    ]
    widest = sum(
        2 + max([len(name), *(len(f[name][0]) for f in fill.values() if name in f)]) for name in resources
    )
    if out.width is not None and widest + max(map(len, pool.hosts)) > out.width:
        columns = [Column("HOST", least=8), Column("RESOURCE", least=8), Column("USED", least=10)]
        rows = [(host, name, cell) for host, filled in fill.items() for name, cell in filled.items()]
    yield from Table(out, *columns).lines(rows)


def _filled(resource: str, host: Mapping[str, Mapping[str, int | str]]) -> Cell:
    """What is taken of a host, by jobs and as a live source sees it: `███████░░░ 3/4`."""
    has, used, seen = (
        amount(resource, host.get(kind, {}).get(resource, 0)) for kind in ("capacity", "used", "seen")
    )
    share = (used + seen) / has if has else 1.0
    return f"{bar(share)} {quantity(resource, used + seen)}/{quantity(resource, has)}", style_of(share)


def style_of(share: float) -> str:
    """The colour of so much that is taken."""
    return "red" if share >= FULL else "yellow" if share >= NEARLY else "green"


def _listed(held: Mapping[str, int | str]) -> str:
    return ", ".join(f"{value} {name}" for name, value in sorted(held.items(), reverse=True))


# --- admit or not ------------------------------------------------------------------------------------


@click.command()
@TYPES
@asks
async def pause(ask: Asking, types_: tuple[str, ...]) -> int:
    """Admit nobody; all else goes on.

    Jobs come, move and end as ever.
    """
    return await _paused(ask, types_, True)


@click.command()
@TYPES
@asks
async def resume(ask: Asking, types_: tuple[str, ...]) -> int:
    """Admit again.

    Whoever's turn it is goes at once.
    """
    return await _paused(ask, types_, False)


async def _paused(ask: Asking, types_: Sequence[str], paused: bool) -> int:
    async def one(type_: str) -> None:
        queue = await ask.client.configure(type_, {"paused": paused})
        if ask.out.json:
            ask.out.document(queue.document)
        else:
            state = "is paused" if paused else "goes on"
            ask.out.line(f"queue {clean(type_)} {state}; {queue.queued} wait, {queue.running} run")

    return await each(types_, one)


# --- what would be -----------------------------------------------------------------------------------


@click.command()
@TYPE
@click.option(
    "--move",
    "moves",
    nargs=2,
    multiple=True,
    metavar="ID WHERE",
    help="WHERE is front, back, after:ID, before:ID or a priority; again for more, one after the other.",
)
@click.option(
    "--host",
    "hosts",
    nargs=3,
    multiple=True,
    metavar="POOL HOST AMOUNTS",
    help="What a host would have, such as VCPU=64,Memory=2Gi; gone takes it away. Again for more.",
)
@click.option(
    "--job",
    "jobs",
    nargs=3,
    multiple=True,
    metavar="ID OWNER AMOUNTS",
    help="A new job of one instance, such as VCPU=4; - asks for one slot. Again for more.",
)
@click.option("--pool", metavar="POOL", help="Look at this pool only.")
@click.option(
    "-f", "--file", help="All that as the API has it, in JSON, before what options say; - reads it."
)
@asks
async def simulate(
    ask: Asking,
    type_: str,
    moves: tuple[tuple[str, str], ...],
    hosts: tuple[tuple[str, str, str], ...],
    jobs: tuple[tuple[str, str, str], ...],
    pool: str | None,
    file: str | None,
) -> int:
    """Show who would be admitted if some things were different.

    Moves, hosts and new jobs, in this order. Nothing happens.
    """
    wanted: dict[str, Any] = {} if file is None else read_json(f"@{file}", file)
    if not isinstance(wanted, dict):
        raise Refused(f"{file}: expected a JSON object with moves, pools, jobs or pool")
    declared = dict(wanted.get("pools") or {})
    for name, host, written in hosts:
        has = None if written == "gone" else amounts(written)
        declared[name] = {"hosts": {**declared.get(name, {}).get("hosts", {}), host: has}}
    found = await ask.client.simulate(
        type_,
        moves=[*(wanted.get("moves") or []), *(_move(name, where) for name, where in moves)],
        pools=declared,
        jobs=[*(wanted.get("jobs") or []), *(_job(*job) for job in jobs)],
        pool=pool or wanted.get("pool"),
    )
    if ask.out.json:
        ask.out.document(found)
    else:
        _tell(ask.out, found)
    return 0


def _move(request_id: str, where: str) -> dict[str, Any]:
    kind, colon, neighbour = where.partition(":")
    if where in ("front", "back"):
        return {"request_id": request_id, "position": where}
    if colon and kind in ("after", "before"):
        return {"request_id": request_id, kind: neighbour}
    try:
        return {"request_id": request_id, "priority": int(where)}
    except ValueError:
        raise Refused(
            f"--move {request_id} {where}: expected front, back, after:ID, before:ID or a priority"
        ) from None


def _job(request_id: str, owner_id: str, written: str) -> dict[str, Any]:
    data = {} if written == "-" else {"instances": [amounts(written)]}
    return {"request_id": request_id, "owner_id": owner_id, "data": data}


def _tell(out: Out, found: Mapping[str, Any]) -> None:
    admitted = found["admitted"]
    waiting = sorted(found["waiting"], key=lambda job: int(job["Position"]))
    out.line(out.paint("would be admitted" if admitted else "nobody would be admitted", "bold"))
    if admitted:
        hosts = [", ".join(dict.fromkeys(job["Placement"])) for job in admitted]
        placed = [(*_named(job), where) for job, where in zip(admitted, hosts, strict=True)]
        Table(out, *_PLACED, Column("HOSTS", least=8)).write(placed)
    if waiting:
        out.line()
        out.line(out.paint("would wait", "bold"))
        rows = [(str(job["Position"]), *_named(job), job["Reason"]) for job in waiting]
        Table(out, Column("#", right=True), *_PLACED, Column("WHY", least=16)).write(rows)
    if found["more"]:
        out.line()
        out.line("Not all was looked at: there would be more.")


def _named(job: Mapping[str, Any]) -> tuple[str, str, str]:
    return job["RequestID"], job["OwnerID"], job["Pool"]
