"""Commands that look at the line and change it, against a real service."""

import asyncio
import os
import subprocess
from pathlib import Path

import orjson

from rqueue.cli.jobs import STANDING
from tests.cli.conftest import COMMAND, ESCAPES, On, Run, documents, environment
from tests.conftest import Service, new

HOSTS = {"hosts": {"n1": {"slots": 4}, "n2": {"slots": 4}}}


async def fill(service: Service, *names: str) -> None:
    """Jobs that wait in a queue that stands still."""
    await service.call("PUT", "/queues/vm", {"paused": True})
    await service.call("PUT", "/queues/vm/pools/default", HOSTS)
    for name in names:
        await service.store.create("vm", [new(name)])


async def order(service: Service) -> list[str]:
    return [job["RequestID"] for job in (await service.call("GET", "/v1/vm/?status=queued"))[1]["data"]]


async def test_ls_shows_queues_and_jobs_in_order(rq: Run, service: Service) -> None:
    assert (await rq("ls")).stderr == "no queue has been used\n"
    await fill(service, "a", "b", "c")
    assert (await rq("ls")).stdout.splitlines()[1].split() == [
        "vm",
        "3",
        "0",
        "0",
        "strict",
        "default",
        "paused",
    ]
    head, *lines = (await rq("ls", "vm")).stdout.splitlines()
    assert head.split()[:5] == ["#", "JOB", "OWNER", "STATUS", "AGE"]
    assert [line.split()[:4] for line in lines] == [
        [str(n), name, "y", "queued"] for n, name in enumerate("abc")
    ]
    assert lines[0].endswith("1 slots   paused: queue vm is paused")
    assert len((await rq("ls", "vm", "--search", "B")).stdout.splitlines()) == 2
    assert len((await rq("ls", "vm", "--owner", "z")).stdout.splitlines()) == 1
    assert len((await rq("ls", "vm", "--status", "done")).stdout.splitlines()) == 1
    some = await rq("ls", "vm", "--limit", "2")
    assert (len(some.stdout.splitlines()), some.stderr) == (3, "there are more: see --limit and --all\n")
    assert [job["RequestID"] for job in documents(await rq("ls", "vm", "--json"))] == ["a", "b", "c"]
    assert [job["Position"] for job in documents(await rq("ls", "vm", "--json", "--limit", "2"))] == [0, 1]
    assert [queue["type"] for queue in documents(await rq("ls", "--json"))] == ["vm"]


async def test_a_long_list_is_shown_without_reasons_and_counted(rq: Run, service: Service) -> None:
    await fill(service)
    await service.store.create("vm", [new(f"j{n}") for n in range(STANDING + 1)])
    _, *lines = (await rq("ls", "vm")).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[str(n), f"j{n}"] for n in range(STANDING + 1)]
    assert "paused" not in lines[-1]


async def test_show_tells_a_job_s_place_data_and_history(rq: Run, service: Service) -> None:
    await fill(service, "a", "b")
    await service.store.create(
        "vm", [new("c", instances=[{"VCPU": 2}, {"VCPU": 2}], note="日本語 [red]x[/red]")]
    )
    shown = (await rq("show", "vm", "c")).stdout
    for said in (
        "position    2, with 2 before it for pool default",
        "why         paused: queue vm is paused",
    ):
        assert said in shown
    assert "asks for    2 of 2 VCPU" in shown
    assert '    "note": "日本語 [red]x[/red]"' in shown
    assert "created  queued" in shown
    (document,) = documents(await rq("show", "vm", "c", "--json"))
    assert document == (await service.call("GET", "/v1/vm/c"))[1]["data"]


async def test_moves_say_from_where_to_where(rq: Run, service: Service) -> None:
    await fill(service, *"abcd")
    assert (await rq("front", "vm", "d")).stdout == "d: position 3 → 0\n"
    assert (await rq("front", "vm", "d")).stdout == "d: position 0, as before\n"
    dry = await rq("back", "vm", "d", "--dry-run")
    assert dry.stdout == "d: position 0 → 3 (nothing was changed)\n"
    assert await order(service) == [*"dabc"]
    await rq("front", "vm", "c", "b")
    assert await order(service) == [*"cbda"]
    await rq("back", "vm", "c", "b")
    assert await order(service) == [*"dacb"]
    await rq("move", "vm", "b", "c", "--after", "d")
    assert await order(service) == [*"dbca"]
    await rq("move", "vm", "a", "c", "--before", "d")
    assert await order(service) == [*"acdb"]
    await rq("move", "vm", "b", "d", "--after", "a", "--before", "c")
    assert await order(service) == [*"abdc"]
    (moved,) = documents(await rq("move", "vm", "c", "--priority", "5", "--json"))
    assert (moved["RequestID"], moved["Priority"]) == ("c", 5)
    assert await order(service) == [*"cabd"]


async def test_what_one_job_does_not_allow_is_done_to_the_others(rq: Run, service: Service) -> None:
    await fill(service, "a", "b")
    result = await rq("cancel", "vm", "nobody", "b")
    assert (result.exit_code, result.stdout) == (1, "b: queued → cancelled\n")
    assert result.stderr == "rqueue: there is no job 'nobody' of type 'vm' (job_not_found)\n"
    result = await rq("front", "vm", "b", "a")
    assert (result.exit_code, result.stdout) == (1, "a: position 0, as before\n")
    assert "illegal_transition" in result.stderr


async def test_a_job_s_life(rq: Run, service: Service) -> None:
    await fill(service)
    made = await rq(
        "create", "vm", "--id", "a", "--owner", "x", "--callback", "http://127.0.0.1:9/a", "--dry-run"
    )
    assert made.stdout == "a: position 0 (nothing was changed)\n"
    words = ["--id", "a", "--owner", "x", "--callback", "http://127.0.0.1:9/a", "--project", "p"]
    words += ["--instance", "slots=2", "--instance", "slots=1", "--data", '{"note": 1}']
    assert (await rq("create", "vm", *words)).stdout == "a: position 0\n"
    _, job = await service.call("GET", "/v1/vm/a")
    assert orjson.loads(job["data"]["Data"]) == {
        "host_aggregate": "default",
        "instances": [{"slots": 2}, {"slots": 1}],
        "note": 1,
        "project": "p",
    }
    twice = await rq("create", "vm", *words)
    assert (twice.exit_code, "duplicate_request_id" in twice.stderr) == (1, True)
    assert (await rq("update", "vm", "a", "--data", "{}")).stdout == "a: updated\n"
    assert "goes on; 1 wait" in (await rq("resume", "vm")).stdout
    await service.settle()
    assert (await rq("confirm", "vm", "a")).stdout == "a: calling → running\n"
    assert "n1" in (await rq("ls", "vm")).stdout
    assert (
        await rq("requeue", "vm", "a", "--dry-run")
    ).stdout == "a: running → queued (nothing was changed)\n"
    assert (await rq("done", "vm", "a")).stdout == "a: running → done\n"
    assert (await rq("requeue", "vm", "a")).exit_code == 1


async def test_jobs_of_a_file(rq: Run, service: Service, tmp_path: Path) -> None:
    drafts = [{"request_id": f"j{n}", "owner_id": "x", "callback": f"http://h/{n}"} for n in range(3)]
    await fill(service)
    made = await rq("create", "vm", "-f", "-", stdin="\n".join(orjson.dumps(d).decode() for d in drafts))
    assert made.stdout == "j0: queued\nj1: queued\nj2: queued\n"
    again = await rq("create", "vm", "-f", "-", stdin=orjson.dumps(drafts).decode())
    assert again.exit_code == 1
    assert "0 of 3 jobs are created" in again.stderr
    file = tmp_path / "one.json"
    file.write_bytes(orjson.dumps(drafts[0] | {"request_id": "k", "callback": "http://h/k"}))
    assert (await rq("create", "vm", "-f", str(file), "--json")).stdout.startswith('{"ID":')
    broken = await rq("create", "vm", "-f", "-", stdin='{"request_id": "a"}\n{')
    assert (broken.exit_code, broken.stderr[:33]) == (2, "rqueue: -, line 2: not JSON: unex")


ENDS: list[tuple[list[str], int, str]] = [
    (["ls", "vm"], 0, ""),
    (["show", "vm", "nobody"], 1, "job_not_found"),
    (["pools", "vm", "nowhere"], 1, "pool_not_found"),
    (["front", "vm", "nobody"], 1, "job_not_found"),
    (["create", "vm", "--owner", "x", "--callback", "no URL"], 2, "invalid_callback"),
    (["create", "vm", "--owner", "x", "--callback", "http://h/", "--data", "[]"], 2, "no JSON object"),
    (["create", "vm", "--owner", "x", "--callback", "http://h/", "--data", "@/nowhere"], 2, "cannot be read"),
    (["create", "vm", "--owner", "x", "--callback", "http://h/", "--instance", "4"], 2, "VCPU=4,Memory=2Gi"),
    (["create", "vm", "--owner", "x"], 2, "--callback"),
    (["create", "vm", "-f", "-", "--owner", "x"], 2, "--file says all"),
    (["move", "vm", "a"], 2, "expected --after"),
    (["move", "vm", "a", "--priority", "1", "--before", "b"], 2, "expected --after"),
    (["update", "vm", "a"], 2, "expected --data"),
    (["ls", "--owner", "x"], 2, "of one TYPE"),
    (["ls", "vm", "--status", "lost"], 2, "queued"),
    (["ls", "vm", "--limit", "0"], 2, "--limit"),
    (["simulate", "vm", "--move", "a", "sideways"], 2, "after:ID"),
    (["simulate", "vm", "--move", "nobody", "front"], 1, "job_not_found"),
    (["nonsense"], 2, "No such command"),
    (["ls", "--url", "http://127.0.0.1:1"], 2, "RQUEUE_URL"),
    (["ls", "--url", "nowhere"], 2, "RQUEUE_URL"),
    (["ls", "--token-file", "/nowhere"], 2, "/nowhere cannot be read"),
]


async def test_how_commands_end(rq: Run) -> None:
    for words, status, said in ENDS:
        result = await rq(*words)
        assert (result.exit_code, said in result.stderr) == (status, True), (words, result.output)
        assert status == 0 or result.stdout == ""
        assert "Usage" in result.stderr or len(result.stderr.splitlines()) <= 1


async def test_a_service_that_is_none_is_named(rq: Run, receiver) -> None:
    result = await rq("ls", "--url", receiver.url)
    assert (result.exit_code, "RQUEUE_URL or --url" in result.stderr) == (2, True)


async def test_hostile_names_are_shown_and_not_obeyed(rq: Run, service: Service) -> None:
    evil = "a\x1b[31m\x1b]0;x\x07\n\r\u202eb[red]"
    await fill(service, evil, "日本語")
    for words in (
        ["ls", "vm"],
        ["show", "vm", evil],
        ["events", "vm"],
        ["front", "vm", evil],
        ["watch", "vm"],
    ):
        shown = (await rq(*words)).stdout
        assert r"a\x1b[31m\x1b]0;x\x07\n\r\u202eb[red]" in shown
        assert not set(shown) & set("\x1b\x07\r\u202e")
    _, first, second = (await rq("ls", "vm")).stdout.splitlines()
    # Wide characters take two cells.
    assert first.index(" y ") - second.index(" y ") == 3
    missing = await rq("show", "vm", "\x1b[31m")
    assert "\x1b" not in missing.stderr


async def test_colours_only_on_a_terminal(service: Service, on_terminal: On) -> None:
    await fill(service, "a")
    async with on_terminal("ls", "vm") as terminal:
        assert await terminal.end() == 0
        assert "\x1b[33mqueued\x1b[0m" in terminal.shown
        assert max(map(len, ESCAPES.sub("", terminal.shown).splitlines())) <= 80
    for words, more in ((["--no-color"], {}), ([], {"NO_COLOR": "1"})):
        async with on_terminal("ls", "vm", *words, **more) as terminal:
            assert await terminal.end() == 0
            assert "queued" in terminal.shown
            assert "\x1b" not in terminal.shown


async def test_who_stops_reading_hears_no_complaint(service: Service) -> None:
    await fill(service)
    await service.store.create("vm", [new(f"j{n}") for n in range(500)])

    def run() -> subprocess.CompletedProcess[str]:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            return subprocess.run(
                [*COMMAND, "ls", "vm"],
                env=environment(service.url),
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        finally:
            os.close(writer)

    ended = await asyncio.to_thread(run)
    assert (ended.returncode, ended.stderr) == (141, "")
