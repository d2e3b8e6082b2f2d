"""The settings of the service, read from an environment."""

from dataclasses import fields
from pathlib import Path

import pytest

from rqueue.config import PREFIX, SETTINGS, Config, read
from rqueue.errors import Refused

DEFAULTS = Config(
    host="127.0.0.1",
    port=8080,
    tls_cert_file=None,
    tls_key_file=None,
    workers=1,
    redis_url="",
    redis_url_file=None,
    redis_username="",
    redis_password_file=None,
    redis_ca_file=None,
    redis_cert_file=None,
    redis_key_file=None,
    wait_replicas=0,
    wait_timeout_ms=1000,
    data_dir=Path("rqueue-data"),
    namespace="rqueue",
    queues_file=None,
    tokens_file=None,
    token_rate=1000,
    auth_kubernetes="false",
    auth_kubernetes_audience="",
    auth_keystone="",
    auth_keystone_role="member",
    max_body=1024 * 1024,
    max_connections=10_000,
    keepalive_timeout=75,
    callback_base_url="",
    callback_secrets=(),
    callback_secrets_file=None,
    callback_ca_file=None,
    callback_allow=(),
    callback_deny=(),
    callback_timeout=15,
    source_seconds=10,
    openstack_cloud="",
    openstack_resources=(("VCPU", "VCPU"), ("Memory", "MEMORY_MB"), ("Disk", "DISK_GB")),
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
        ("OPENSTACK_CLOUD", "east", "east"),
        ("OPENSTACK_RESOURCES", "a=b=VCPU, G=CUSTOM_G_1", (("a=b", "VCPU"), ("G", "CUSTOM_G_1"))),
        ("LOG_FORMAT", "json", "json"),
        ("LOG_LEVEL", "debug", "debug"),
    ],
)
def test_each_setting_is_read(name, text, value):
    assert getattr(read({PREFIX + name: text}), name.lower()) == value


def test_who_may_be_asked_is_read_beside_a_tokens_file():
    url = "https://keystone:5000/identity/v3/"
    asked = {PREFIX + "AUTH_KEYSTONE": url, PREFIX + "AUTH_KUBERNETES": "true"}
    found = read({**asked, PREFIX + "TOKENS_FILE": "tokens.yaml"})
    assert (found.auth_keystone, found.auth_kubernetes) == (url, "true")
    for name, value in asked.items():
        with pytest.raises(Refused, match="need RQUEUE_TOKENS_FILE"):
            read({name: value})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AUTH_KEYSTONE", "https://keystone:5000"),
        ("AUTH_KEYSTONE", "keystone/v3"),
        *(("PORT", text) for text in ("-1", "65536", "8080.0", "x", " 80", "\uff18", "9" * 19)),
        *(("WORKERS", text) for text in ("0", "65", "-1", "1.5", "two")),
        *(("MAX_BODY", text) for text in ("0", "1023", str((1 << 30) + 1), "1MiB")),
        *(("NAMESPACE", text) for text in ("{a}", "a b", "n" * 65, "a*", "虛", "a\n")),
        *(("CALLBACK_TIMEOUT", text) for text in ("0", "301", "1.5")),
        *(("OPENSTACK_RESOURCES", text) for text in ("VCPU", "=VCPU", "a=", "a=vcpu", "a=A a=B", "a=A b=A")),
        *(("LOG_FORMAT", text) for text in ("JSON", "xml")),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_and_the_service_does_not_start(name, text):
    with pytest.raises(Refused, match=f"^RQUEUE_{name} is .*expected"):
        read({PREFIX + name: text})


def test_the_url_of_redis_may_be_in_a_file(tmp_path):
    (tmp_path / "url").write_text("rediss://h:1/2\n")
    assert read({"RQUEUE_REDIS_URL_FILE": str(tmp_path / "url")}).redis_url == "rediss://h:1/2"


@pytest.mark.parametrize("content", [None, b"", b"\n", b"redis://:s3cret\xff@h"])
def test_a_file_that_holds_no_url_is_named_and_not_quoted(tmp_path, content):
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Refused, match=f"^RQUEUE_REDIS_URL_FILE: {path} ") as raised:
        read({"RQUEUE_REDIS_URL_FILE": str(path)})
    assert "s3cret" not in raised.value.message


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"REDIS_URL": "redis://h", "REDIS_URL_FILE": "url"}, ("REDIS_URL", "REDIS_URL_FILE")),
        (
            {"CALLBACK_SECRETS": "whsec_a", "CALLBACK_SECRETS_FILE": "f"},
            ("CALLBACK_SECRETS", "CALLBACK_SECRETS_FILE"),
        ),
        ({"TLS_CERT_FILE": "c"}, ("TLS_CERT_FILE", "TLS_KEY_FILE")),
        ({"TLS_KEY_FILE": "k"}, ("TLS_CERT_FILE", "TLS_KEY_FILE")),
        ({"REDIS_URL": "rediss://h", "REDIS_CERT_FILE": "c"}, ("REDIS_CERT_FILE", "REDIS_KEY_FILE")),
        ({"REDIS_URL": "rediss://h", "REDIS_KEY_FILE": "k"}, ("REDIS_CERT_FILE", "REDIS_KEY_FILE")),
        ({"REDIS_URL": "redis://h", "REDIS_CA_FILE": "c"}, ("REDIS_CA_FILE", "rediss")),
        ({"REDIS_URL": "redis://h", "REDIS_CERT_FILE": "c", "REDIS_KEY_FILE": "k"}, ("REDIS_CERT_FILE",)),
        ({"REDIS_CA_FILE": "c"}, ("REDIS_CA_FILE", "REDIS_URL")),
        ({"REDIS_PASSWORD_FILE": "p"}, ("REDIS_PASSWORD_FILE", "REDIS_URL")),
        ({"REDIS_USERNAME": "u"}, ("REDIS_USERNAME", "REDIS_URL")),
        ({"WAIT_REPLICAS": "1"}, ("WAIT_REPLICAS", "REDIS_URL")),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, named):
    with pytest.raises(Refused) as raised:
        read({PREFIX + name: value for name, value in settings.items()})
    for name in named:
        assert name in raised.value.message


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
