"""The settings of the service: one table, and the only reader of the environment."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rqueue.errors import Refused

PREFIX = "RQUEUE_"
# What Kubernetes puts into every pod for a Service named rqueue, or rqueue-redis, and so on.
_SERVICE_LINK = re.compile(r"RQUEUE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")
_SERVICE_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://.*")


@dataclass(frozen=True, slots=True)
class Setting:
    """One RQUEUE_* variable: its default as text, its reader, and a line of help."""

    name: str
    default: str
    read: Callable[[str], Any]
    help: str


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(written: str) -> int:
        value = int(written) if re.fullmatch(r"[0-9]{1,18}", written) else -1
        if not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return read


def _choice(*choices: str) -> Callable[[str], str]:
    def read(written: str) -> str:
        if written not in choices:
            raise ValueError(f"expected one of: {', '.join(choices)}")
        return written

    return read


def _namespace(written: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", written):
        raise ValueError("expected 1 to 64 letters, digits, dots, colons, dashes or underscores")
    return written


def _words(written: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\s,]+", written) if word)


SETTINGS = (
    Setting(
        "HOST", "127.0.0.1", str, "the address to listen on; only loopback, since there are no tokens yet"
    ),
    Setting("PORT", "8080", _number(0, 65535), "the port to listen on; 0 takes a free one"),
    Setting("WORKERS", "1", _number(1, 64), "how many processes share the port"),
    Setting(
        "REDIS_URL", "", str, "redis://, rediss:// or unix://; empty: an embedded server in RQUEUE_DATA_DIR"
    ),
    Setting("DATA_DIR", "rqueue-data", Path, "where the embedded server keeps its file, socket and log"),
    Setting("NAMESPACE", "rqueue", _namespace, "what all keys in Redis begin with"),
    Setting("MAX_BODY", str(1 << 20), _number(1024, 1 << 30), "the largest request body, in bytes"),
    Setting(
        "CALLBACK_BASE_URL",
        "",
        str,
        "what callbacks that are not absolute are resolved against;"
        " on the embedded server the service's own inbox",
    ),
    Setting(
        "CALLBACK_SECRETS",
        "",
        _words,
        "signing secrets (whsec_…), the newest first, two while rotating;"
        " empty: one is made and kept in Redis",
    ),
    Setting("CALLBACK_ALLOW", "", _words, "CIDRs and host globs that may be called whatever the rules say"),
    Setting(
        "CALLBACK_DENY", "", _words, "CIDRs and host globs that may never be called; stronger than allow"
    ),
    Setting("CALLBACK_TIMEOUT", "15", _number(1, 300), "how long one try of a callback may take, in seconds"),
    Setting(
        "LOG_FORMAT", "text", _choice("text", "json"), "text for people, json for one JSON object an event"
    ),
    Setting(
        "LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "the least important events shown"
    ),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, read. One field for each row of SETTINGS, in lower case."""

    host: str
    port: int
    workers: int
    redis_url: str
    data_dir: Path
    namespace: str
    max_body: int
    callback_base_url: str
    callback_secrets: tuple[str, ...]
    callback_allow: tuple[str, ...]
    callback_deny: tuple[str, ...]
    callback_timeout: int
    log_format: str
    log_level: str


def read(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings. Raises Refused for a value that cannot be read, and for a variable that is none.

    An unknown RQUEUE_* variable stops the service: a misspelt guard must not be silently off.
    """
    known = {PREFIX + setting.name for setting in SETTINGS}
    for name in environment:
        if name.startswith(PREFIX) and name not in known and not _SERVICE_LINK.fullmatch(name):
            raise Refused(f"there is no setting {name}; there are {', '.join(sorted(known))}")
    values = {}
    for setting in SETTINGS:
        name = PREFIX + setting.name
        written = environment.get(name, "")
        if name == "RQUEUE_PORT" and _SERVICE_LINK_VALUE.fullmatch(written):
            written = ""
        try:
            values[setting.name.lower()] = setting.read(written or setting.default)
        except ValueError as error:
            raise Refused(f"{name} is {environment[name]!r}; {error}") from None
    return Config(**values)


def traced(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenTelemetry's own variables (OTEL_…) ask for traces. The rest of them its library reads."""
    named = any(environment.get(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT") for kind in ("", "TRACES_"))
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return named and not off and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
