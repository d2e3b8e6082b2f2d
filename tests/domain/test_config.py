"""The settings of the service, read from an environment."""

from dataclasses import fields
from pathlib import Path

import pytest

from rqueue.config import PREFIX, SETTINGS, Config, read
from rqueue.errors import Refused

DEFAULTS = Config(
    host="127.0.0.1",
    port=8080,
    workers=1,
    redis_url="",
    data_dir=Path("rqueue-data"),
    namespace="rqueue",
    tokens_file="",
    token_rate=1000,
    auth_kubernetes="false",
    auth_kubernetes_audience="",
    auth_keystone="",
    auth_keystone_role="member",
    max_body=1024 * 1024,
    callback_base_url="",
    callback_secrets=(),
    callback_allow=(),
    callback_deny=(),
    callback_timeout=15,
    log_format="text",
    log_level="info",
)


def test_without_variables_all_is_at_its_default():
    assert read({"PATH": "/bin", "rqueue_host": "x", "XRQUEUE_HOST": "x"}) == DEFAULTS


def test_an_empty_variable_counts_as_not_set():
    assert read({PREFIX + setting.name: "" for setting in SETTINGS}) == DEFAULTS


def test_the_fields_of_config_are_the_rows_of_the_table():
    assert [field.name for field in fields(Config)] == [setting.name.lower() for setting in SETTINGS]


def test_every_setting_has_a_line_of_help():
    assert all(setting.help and "\n" not in setting.help for setting in SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOST", "::1", "::1"),
        ("PORT", "0", 0),
        ("PORT", "65535", 65535),
        ("WORKERS", "1", 1),
        ("WORKERS", "64", 64),
        ("REDIS_URL", "rediss://h:1/2", "rediss://h:1/2"),
        ("DATA_DIR", "/var/lib/rqueue", Path("/var/lib/rqueue")),
        ("NAMESPACE", "a.B_c:d-1", "a.B_c:d-1"),
        ("NAMESPACE", "n" * 64, "n" * 64),
        ("MAX_BODY", "1024", 1024),
        ("MAX_BODY", str(1 << 30), 1 << 30),
        ("CALLBACK_BASE_URL", "https://portal/cb/", "https://portal/cb/"),
        ("CALLBACK_SECRETS", "whsec_YQ==, whsec_Yg==", ("whsec_YQ==", "whsec_Yg==")),
        ("CALLBACK_ALLOW", "10.0.0.0/8 *.example.org\n::1", ("10.0.0.0/8", "*.example.org", "::1")),
        ("CALLBACK_DENY", ",,x,", ("x",)),
        ("CALLBACK_TIMEOUT", "1", 1),
        ("CALLBACK_TIMEOUT", "300", 300),
        ("LOG_FORMAT", "json", "json"),
        ("LOG_LEVEL", "debug", "debug"),
    ],
)
def test_each_setting_is_read(name, text, value):
    assert getattr(read({PREFIX + name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("PORT", text) for text in ("-1", "65536", "8080.0", "x", " 80", "\uff18", "9" * 19)),
        *(("WORKERS", text) for text in ("0", "65", "-1", "1.5", "two")),
        *(("MAX_BODY", text) for text in ("0", "1023", str((1 << 30) + 1), "1MiB")),
        *(("NAMESPACE", text) for text in ("{a}", "a b", "n" * 65, "a*", "虛", "a\n")),
        *(("CALLBACK_TIMEOUT", text) for text in ("0", "301", "1.5")),
        *(("LOG_FORMAT", text) for text in ("JSON", "xml")),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_and_the_service_does_not_start(name, text):
    with pytest.raises(Refused, match=f"^RQUEUE_{name} is .*expected"):
        read({PREFIX + name: text})


@pytest.mark.parametrize("name", ["RQUEUE_CALLBACK_DENNY", "RQUEUE_", "RQUEUE_host", "RQUEUE_TOKENS"])
def test_a_variable_that_is_no_setting_stops_the_service(name):
    with pytest.raises(Refused, match=f"there is no setting {name};"):
        read({name: ""})


def test_what_kubernetes_adds_for_a_service_of_this_name_is_let_pass():
    links = {
        "RQUEUE_SERVICE_HOST": "10.0.0.1",
        "RQUEUE_SERVICE_PORT": "80",
        "RQUEUE_SERVICE_PORT_HTTP": "80",
        "RQUEUE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "RQUEUE_PORT_80_TCP_PROTO": "tcp",
        "RQUEUE_PORT_80_TCP_PORT": "80",
        "RQUEUE_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert read(links) == DEFAULTS


@pytest.mark.parametrize(
    "links",
    [
        # The one link that has the name of a setting.
        {"RQUEUE_PORT": "tcp://10.0.0.1:80"},
        # Of the Service named rqueue-redis beside it.
        {"RQUEUE_REDIS_SERVICE_HOST": "10.0.0.2", "RQUEUE_REDIS_PORT": "tcp://10.0.0.2:6379"},
        {"RQUEUE_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2"},
    ],
)
def test_links_that_look_like_settings_are_let_pass_too(links):
    assert read(links) == DEFAULTS
