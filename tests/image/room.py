"""What the Dockerfile makes, made without an engine.

A root directory of its own (mount namespace, chroot) in which the steps of the build stage run as they
are written, with this machine's Debian in place of the base image's, and this interpreter at /usr/local.
Not tried here: what the base image itself holds, and what an engine makes of the file. Needs Linux, root
and leave to mount.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
TOOLS = ("unshare", "mount", "chroot", "strip")
MACHINE = (
    "usr",
    "etc",
    "proc",
    "dev",
    *(name for name in ("bin", "lib", "lib64") if Path("/", name).is_dir()),
)
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# In this interpreter's library and not in the base image's.
FOREIGN = ("__pycache__", "test", "tests", "idle_test", "config-*", "*.a")


@dataclass(frozen=True)
class Step:
    """One instruction of a Dockerfile: its name in capitals, and the words behind it."""

    name: str
    words: str


def stages() -> list[list[Step]]:
    """The Dockerfile's instructions, stage by stage; the first list is what stands before any FROM."""
    found: list[list[Step]] = [[]]
    for part in DockerfileParser(fileobj=BytesIO((ROOT / "Dockerfile").read_bytes())).structure:
        if part["instruction"] == "FROM":
            found.append([])
        if part["instruction"] != "COMMENT":
            found[-1].append(Step(part["instruction"], part["value"]))
    return found


def the(name: str) -> str:
    """The words of an instruction that the last stage has once."""
    (step,) = (step for step in stages()[-1] if step.name == name)
    return step.words


def health_check() -> list[str]:
    """The words that an engine runs for HEALTHCHECK."""
    words: list[str] = json.loads(the("HEALTHCHECK").partition(" CMD ")[2])
    return words


def why_not() -> str:
    """Why no room can be made here; empty where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux can"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} not installed"
    if not (Path(sys.base_prefix) / "lib" / PYTHON / "site-packages" / "pip").is_dir():
        return "this interpreter has no pip beside it, as the base image's has"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


def size(*roots: Path) -> int:
    """Bytes in the files below, as layers count them: each file once, and no blocks."""
    return sum(
        (Path(directory) / name).lstat().st_size
        for root in roots
        for directory, _, names in os.walk(root)
        for name in names
    )


def image(root: Path) -> tuple["Room", int]:
    """What the Dockerfile makes, and how many bytes that has beyond the base image."""
    rooms: dict[str, Room] = {}
    for stage in stages()[1:-1]:
        name = stage[0].words.rpartition(" AS ")[2]
        (root / name).mkdir()
        rooms[name] = Room(root / name)
        before = size(rooms[name].root)
        rooms[name].build(stage, rooms)
    (data,) = (step.words for step in stages()[-1] if step.words.endswith(" /data"))
    made = rooms[stages()[-1][1].words.split()[0].removeprefix("--from=")]
    owner = data.split()[1].removeprefix("--chown=")
    os.chown(made.root / "data", *map(int, owner.split(":")))
    return made, size(made.root) - before


class Room:
    """A root directory with an interpreter at /usr/local and nothing else of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o755)
        for name in (*MACHINE, "local/bin", "tmp", "data"):
            if Path("/", name).is_symlink():
                (root / name).symlink_to(Path("/", name).readlink())
            else:
                (root / name).mkdir(parents=True)
        base, local = Path(sys.base_prefix), root / "local"
        ignored = shutil.ignore_patterns(*FOREIGN, "site-packages")
        shutil.copytree(base / "lib" / PYTHON, local / "lib" / PYTHON, symlinks=True, ignore=ignored)
        for library in (base / "lib").glob("libpython*.so*"):
            shutil.copy2(library, local / "lib", follow_symlinks=False)
        for package in ("pip", "setuptools", "wheel"):
            for found in (base / "lib" / PYTHON / "site-packages").glob(f"{package}*"):
                there = local / "lib" / PYTHON / "site-packages" / found.name
                shutil.copytree(found, there, ignore=shutil.ignore_patterns(*FOREIGN))
        shutil.copy2(base / "bin" / PYTHON, local / "bin")
        (local / "bin" / "python").symlink_to(PYTHON)
        (local / "bin" / "python3").symlink_to(PYTHON)

    def build(self, stage: list[Step], rooms: dict[str, "Room"]) -> None:
        """Run a stage in a new room: each step as it is written, but for what it has from Debian.

        `rooms` are those of earlier stages, by name.
        """
        directory, environment = "/", _outside()
        for step in stage[1:]:
            if step.name == "ARG":
                environment.update([step.words.split("=", 1)])
            elif step.name == "WORKDIR":
                directory = step.words
                (self.root / directory.strip("/")).mkdir(parents=True)
            elif step.name == "COPY":
                *sources, there = step.words.split()
                source_root = (
                    rooms[sources.pop(0).removeprefix("--from=")].root if "--" in step.words else ROOT
                )
                for source in sources:
                    _copy(
                        source_root / source.strip("/"), self.root / Path(directory, there).relative_to("/")
                    )
            elif step.name == "RUN" and not step.words.startswith("apt-get "):
                command = self.command(["/bin/sh", "-c", step.words], directory, environment)
                ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
                assert ran.returncode == 0, f"{step.words}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"
            else:
                assert step.name == "RUN", f"no room knows {step.name}"

    def as_image(self, words: Sequence[str], **settings: str) -> list[str]:
        """The command that runs these words as a container of the image does: its ENV, its USER, and a root
        that is read-only but for /data and /tmp."""
        environment = dict(pair.split("=", 1) for pair in shlex.split(the("ENV")))
        environment |= {f"RQUEUE_{name}": value for name, value in settings.items()}
        return self.command(words, the("WORKDIR"), environment, user=the("USER"), read_only=True)

    def command(
        self,
        words: Sequence[str],
        directory: str,
        environment: dict[str, str],
        user: str = "0:0",
        read_only: bool = False,
    ) -> list[str]:
        """The command that runs these words in the room; whatever starts it is then that process itself."""
        root = shlex.quote(str(self.root))
        # The machine's own directories are read-only in any case: steps may remove.
        lines = [f"mount --bind {root} {root}"]
        lines += [
            f"mount --rbind /{name} {root}/{name} && mount -o remount,bind,ro {root}/{name}"
            for name in MACHINE
            if not Path("/", name).is_symlink() and name not in ("proc", "dev")
        ]
        lines += [f"mount --rbind /{name} {root}/{name}" for name in ("proc", "dev")]
        lines += [f"mount --bind {root}/local {root}/usr/local"]
        if read_only:
            lines += [f"mount --bind {root}/data {root}/data", f"mount -t tmpfs tmpfs {root}/tmp"]  # noqa: S108
            lines += [f"mount -o remount,bind,ro {root}/usr/local", f"mount -o remount,bind,ro {root}"]
        # This interpreter may know its library by a path that is not in the room.
        given = {"LD_LIBRARY_PATH": "/usr/local/lib", **environment}
        inside = ["env", "-i", "-C", directory, *(f"{k}={v}" for k, v in given.items()), *words]
        lines += [f"exec chroot --userspec={user} --groups= {root} {shlex.join(inside)}"]
        return ["unshare", "--mount", "/bin/sh", "-c", "\n".join(["set -e", *lines])]


def _copy(source: Path, there: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, there, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, there)


def _outside() -> dict[str, str]:
    """The environment of a step: the base image's, and how a registry is reached from here."""
    asked = ("pip_", "http_proxy", "https_proxy", "no_proxy")
    reach = {name: value for name, value in os.environ.items() if name.lower().startswith(asked)}
    return {
        "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/root",
        **reach,
    }
