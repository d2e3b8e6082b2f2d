"""The settings of the service: one table, and the only reader of the environment."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rqueue.errors import Refused
from rqueue.files import content

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


def _keystone(written: str) -> str:
    # At any other path Keystone knows no token, and all would be refused without a word why.
    if written and not re.fullmatch(r"https?://[^/\s]+(/\S+)?/v3/?", written):
        raise ValueError("expected an http or https URL that ends in /v3")
    return written


def _file(written: str) -> Path | None:
    return Path(written) if written else None


def words(written: str) -> tuple[str, ...]:
    """What is separated by white space or commas."""
    return tuple(word for word in re.split(r"[\s,]+", written) if word)


def _resources(written: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple((name, class_) for name, _, class_ in (word.rpartition("=") for word in words(written)))
    names, classes = {name for name, _ in pairs}, {class_ for _, class_ in pairs}
    if not all(name and re.fullmatch(r"[A-Z0-9_]{1,255}", class_) for name, class_ in pairs):
        raise ValueError("expected words such as VCPU=VCPU GPU=PGPU: a resource, and its class in capitals")
    if not len(names) == len(classes) == len(pairs):
        raise ValueError("expected each resource and each class once")
    return pairs


SETTINGS = (
    Setting("HOST", "127.0.0.1", str, "the address to listen on; without RQUEUE_TOKENS_FILE only loopback"),
    Setting("PORT", "8080", _number(0, 65535), "the port to listen on; 0 takes a free one"),
    Setting(
        "TLS_CERT_FILE", "", _file, "the port's own certificate with its chain, in PEM; empty: plain HTTP"
    ),
    Setting("TLS_KEY_FILE", "", _file, "the key of RQUEUE_TLS_CERT_FILE, in PEM, without a passphrase"),
    Setting("WORKERS", "1", _number(1, 64), "how many processes share the port"),
    Setting(
        "REDIS_URL",
        "",
        str,
        "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://; empty: an embedded server",
    ),
    Setting("REDIS_URL_FILE", "", _file, "a file that holds RQUEUE_REDIS_URL, such as a mounted Secret"),
    Setting("REDIS_USERNAME", "", str, "the user at Redis, where the URL names none"),
    Setting("REDIS_PASSWORD_FILE", "", _file, "a file that holds the password at Redis, as it is"),
    Setting(
        "REDIS_CA_FILE",
        "",
        _file,
        "the only authorities trusted for a rediss:// URL, in PEM; empty: the system's",
    ),
    Setting("REDIS_CERT_FILE", "", _file, "the client certificate for a rediss:// URL, in PEM"),
    Setting("REDIS_KEY_FILE", "", _file, "the key of RQUEUE_REDIS_CERT_FILE, in PEM, without a passphrase"),
    Setting(
        "WAIT_REPLICAS",
        "0",
        _number(0, 16),
        "how many replicas of Redis must have a write before it is answered; else the answer is 503",
    ),
    Setting(
        "WAIT_TIMEOUT_MS", "1000", _number(1, 2000), "how long those replicas are waited for, in milliseconds"
    ),
    Setting("DATA_DIR", "rqueue-data", Path, "where the embedded server keeps its file, socket and log"),
    Setting("NAMESPACE", "rqueue", _namespace, "what all keys in Redis begin with"),
    Setting(
        "QUEUES_FILE",
        "",
        _file,
        "YAML of queues and pools, applied at the start and when it changes, as by rqueue apply",
    ),
    Setting(
        "TOKENS_FILE",
        "",
        _file,
        "YAML of who may do what, read again when it changes; empty: the API is open, on loopback only",
    ),
    Setting(
        "TOKEN_RATE",
        "1000",
        _number(1, 1_000_000),
        "how many requests a second one token may send to a process",
    ),
    Setting(
        "AUTH_KUBERNETES",
        "false",
        _choice("false", "true"),
        "whether ServiceAccount tokens are taken, by TokenReview, for those named in the tokens file",
    ),
    Setting(
        "AUTH_KUBERNETES_AUDIENCE", "", str, "for whom such a token must be made; empty: for the API server"
    ),
    Setting(
        "AUTH_KEYSTONE",
        "",
        _keystone,
        "Keystone's URL (…/v3): its tokens are those of a client, the project its owner",
    ),
    Setting("AUTH_KEYSTONE_ROLE", "member", str, "the role in its project that such a client must have"),
    Setting("MAX_BODY", str(1 << 20), _number(1024, 1 << 30), "the largest request body, in bytes"),
    Setting(
        "MAX_CONNECTIONS",
        "10000",
        _number(16, 1_000_000),
        "how many connections a process keeps open; beyond, idle ones are closed for new ones",
    ),
    Setting(
        "KEEPALIVE_TIMEOUT",
        "75",
        _number(1, 86400),
        "after how many idle seconds a connection is closed; longer than a proxy in front keeps its own",
    ),
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
        words,
        "signing secrets (whsec_…), the newest first, two while rotating;"
        " empty: one is made and kept in Redis",
    ),
    Setting(
        "CALLBACK_SECRETS_FILE",
        "",
        _file,
        "a file that holds RQUEUE_CALLBACK_SECRETS; read again when it changes",
    ),
    Setting(
        "CALLBACK_CA_FILE",
        "",
        _file,
        "authorities trusted for https:// callbacks besides the system's, in PEM",
    ),
    Setting("CALLBACK_ALLOW", "", words, "CIDRs and host globs that may be called whatever the rules say"),
    Setting("CALLBACK_DENY", "", words, "CIDRs and host globs that may never be called; stronger than allow"),
    Setting("CALLBACK_TIMEOUT", "15", _number(1, 300), "how long one try of a callback may take, in seconds"),
    Setting(
        "SOURCE_SECONDS",
        "10",
        _number(1, 3600),
        "how often a live source of capacity is read, in seconds; less than a queue's stale_after",
    ),
    Setting(
        "OPENSTACK_CLOUD",
        "",
        str,
        "which cloud of clouds.yaml the source openstack asks; empty: that of OS_CLOUD, or of the other OS_*",
    ),
    Setting(
        "OPENSTACK_RESOURCES",
        "VCPU=VCPU Memory=MEMORY_MB Disk=DISK_GB",
        _resources,
        "what jobs ask of the source openstack: all resources, each with its resource class in Placement",
    ),
    Setting(
        "LOG_FORMAT", "text", _choice("text", "json"), "text for people, json for one JSON object an event"
    ),
    Setting(
        "LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "the least important events shown"
    ),
)


# What the commands read that talk to a running service; of no use to the service itself.
CLIENT = {"RQUEUE_URL": "http://127.0.0.1:8080", "RQUEUE_TOKEN": ""}


def client(
    environment: Mapping[str, str] = os.environ, url: str | None = None, token: str | None = None
) -> tuple[str, str]:
    """The URL of the service to talk to, and the token to show, "" for none; given ones, else the variables'.

    Raises Refused.
    """
    given = {"RQUEUE_URL": url, "RQUEUE_TOKEN": token}
    url, token = (
        environment.get(name) or default if (value := given[name]) is None else value
        for name, default in CLIENT.items()
    )
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        raise Refused(f"RQUEUE_URL is {url!r}; expected an http or https URL")
    return url, token


def callback_secrets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The secrets by which a receiver knows the service's callbacks, none where they are not set.

    Read from the service's own two variables. Raises Refused.
    """
    names = ("CALLBACK_SECRETS", "CALLBACK_SECRETS_FILE")
    values = {name.lower(): environment.get(PREFIX + name, "") for name in names}
    _only_one(*names, values)
    if path := values["callback_secrets_file"]:
        return words(_text("RQUEUE_CALLBACK_SECRETS_FILE", Path(path)))
    return words(values["callback_secrets"])


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, read. One field for each row of SETTINGS, in lower case."""

    host: str
    port: int
    tls_cert_file: Path | None
    tls_key_file: Path | None
    workers: int
    redis_url: str
    redis_url_file: Path | None
    redis_username: str
    redis_password_file: Path | None
    redis_ca_file: Path | None
    redis_cert_file: Path | None
    redis_key_file: Path | None
    wait_replicas: int
    wait_timeout_ms: int
    data_dir: Path
    namespace: str
    queues_file: Path | None
    tokens_file: Path | None
    token_rate: int
    auth_kubernetes: str
    auth_kubernetes_audience: str
    auth_keystone: str
    auth_keystone_role: str
    max_body: int
    max_connections: int
    keepalive_timeout: int
    callback_base_url: str
    callback_secrets: tuple[str, ...]
    callback_secrets_file: Path | None
    callback_ca_file: Path | None
    callback_allow: tuple[str, ...]
    callback_deny: tuple[str, ...]
    callback_timeout: int
    source_seconds: int
    openstack_cloud: str
    openstack_resources: tuple[tuple[str, str], ...]
    log_format: str
    log_level: str


def read(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings. Raises Refused for a value that cannot be read, and for a variable that is none.

    An unknown RQUEUE_* variable stops the service: a misspelt guard must not be silently off. So do
    settings that exclude each other, or of which one is nothing without the other.
    """
    known = {PREFIX + setting.name for setting in SETTINGS}
    for name in environment:
        if (
            name.startswith(PREFIX)
            and name not in known
            and name not in CLIENT
            and not _SERVICE_LINK.fullmatch(name)
        ):
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
    if values["redis_url_file"]:
        _only_one("REDIS_URL", "REDIS_URL_FILE", values)
        values["redis_url"] = _text("RQUEUE_REDIS_URL_FILE", values["redis_url_file"])
    _only_one("CALLBACK_SECRETS", "CALLBACK_SECRETS_FILE", values)
    for part in ("TLS", "REDIS"):
        _only_together(f"{part}_CERT_FILE", f"{part}_KEY_FILE", values)
    _of_use_to_redis(values)
    if not values["tokens_file"] and (values["auth_keystone"] or values["auth_kubernetes"] == "true"):
        raise Refused(
            "RQUEUE_AUTH_KUBERNETES and RQUEUE_AUTH_KEYSTONE need RQUEUE_TOKENS_FILE, be it `tokens: []`"
        )
    return Config(**values)


def _text(setting: str, path: Path) -> str:
    """What is in a file, without white space around it. Raises Refused, which quotes nothing of it."""
    try:
        return content(setting, path).decode().strip()
    except UnicodeDecodeError:
        raise Refused(f"{setting}: {path} is not UTF-8") from None


def _only_one(one: str, other: str, values: Mapping[str, Any]) -> None:
    if values[one.lower()] and values[other.lower()]:
        raise Refused(f"{PREFIX}{one} and {PREFIX}{other} are both set; expected one of them")


def _only_together(one: str, other: str, values: Mapping[str, Any]) -> None:
    if bool(values[one.lower()]) != bool(values[other.lower()]):
        there, missing = (one, other) if values[one.lower()] else (other, one)
        raise Refused(f"{PREFIX}{there} is set without {PREFIX}{missing}; expected both, or neither")


def _of_use_to_redis(values: Mapping[str, Any]) -> None:
    """A guard that is not looked at would be silently off."""
    url = values["redis_url"]
    for name in (
        *("REDIS_USERNAME", "REDIS_PASSWORD_FILE", "REDIS_CA_FILE", "REDIS_CERT_FILE"),
        "WAIT_REPLICAS",
    ):
        if not values[name.lower()]:
            continue
        if not url:
            raise Refused(
                f"{PREFIX}{name} is set, and the embedded server has no use for it; see RQUEUE_REDIS_URL"
            )
        if name in ("REDIS_CA_FILE", "REDIS_CERT_FILE") and not url.startswith(("rediss://", "rediss+")):
            raise Refused(f"{PREFIX}{name} is set, and RQUEUE_REDIS_URL does not begin with rediss")


def traced(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenTelemetry's own variables (OTEL_…) ask for traces. The rest of them its library reads."""
    named = any(environment.get(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT") for kind in ("", "TRACES_"))
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return named and not off and environment.get("OTEL_TRACES_EXPORTER", "otlp") == "otlp"
