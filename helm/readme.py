"""Write what of the chart is made from elsewhere: the values in its README.md, from values.yaml, and in
values.schema.json the settings that extraEnv may hold, from rqueue's table of them.

`make chart` writes both; `tests/helm/test_values.py` fails where they are not what this would write.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rqueue.config import PREFIX, SETTINGS

CHART = Path(__file__).parent / "rqueue"
MARK = "<!-- values: written by helm/readme.py -->"


def values(node: yaml.Node, lines: list[str], path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every value below a node that has a `# --` line: its path, default, and what that line says."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        name = f"{path}.{key.value}".lstrip(".")
        said = re.fullmatch(r" *# -- (.+)", lines[key.start_mark.line - 1])
        if said:
            yield name, yaml.safe_load(yaml.serialize(value)), said[1]
        elif isinstance(value, yaml.MappingNode):
            yield from values(value, lines, name)
        else:
            raise SystemExit(f"values.yaml: {name} has no line `# -- …` above it")


def documented() -> list[tuple[str, Any, str]]:
    """The rows of the table."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    assert root is not None
    return list(values(root, text.splitlines()))


def page(before: str) -> str:
    """The page with the table below the mark written anew."""
    rows = [
        f"| `{name}` | {'' if default == '' else f'`{json.dumps(default)}`'} | {said} |"
        for name, default, said in documented()
    ]
    table = "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])
    return f"{before.partition(MARK)[0]}{MARK}\n\n{table}\n"


def settings() -> list[str]:
    """The variables that no value stands for, nor for the file that holds them."""
    written = (CHART / "templates" / "deployment.yaml").read_text()
    taken = set(re.findall(r"- name: (RQUEUE_\w+)", written))
    names = [PREFIX + setting.name for setting in SETTINGS]
    return [name for name in names if not {name, f"{name}_FILE"} & taken]


def schema(before: str) -> str:
    """The schema with the list of these variables written anew."""
    return re.sub(
        r'("setting": \{\n.*\n *"enum": )\[[^]]*\]', lambda found: found[1] + json.dumps(settings()), before
    )


if __name__ == "__main__":
    for name, write in (("README.md", page), ("values.schema.json", schema)):
        file = CHART / name
        file.write_text(write(file.read_text()))
