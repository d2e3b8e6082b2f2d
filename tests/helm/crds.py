"""Strict schemas of the custom resources that the chart makes, as far as it uses them.

The packages that hold Kubernetes's own schemas do not hold these. Written after the resources'
published reference; a field that is not here is an error, so that the chart cannot use it unseen.
"""

from typing import Any

STRING = {"type": "string", "minLength": 1}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(*needed: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(needed),
        "properties": properties,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


def _resource(api: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _object("name", name=STRING, namespace=STRING, labels=LABELS, annotations=LABELS)
    return _object(
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        apiVersion={"const": api},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


_KEY = _object("name", "key", name=STRING, key=STRING)
_DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}
_ENDPOINT = _object(
    "port",
    port=STRING,
    path=STRING,
    interval=_DURATION,
    scheme={"enum": ["http", "https"]},
    authorization=_object("credentials", type=STRING, credentials=_KEY),
    tlsConfig=_object(serverName=STRING, ca=_object("secret", secret=_KEY)),
)
_RULE = {
    **_object(
        "alert",
        "expr",
        "labels",
        "annotations",
        alert=STRING,
        expr=STRING,
        labels=LABELS,
        annotations=LABELS,
        **{"for": _DURATION},
    )
}
_PARENT = _object(
    "name",
    group=STRING,
    kind=STRING,
    name=STRING,
    namespace=STRING,
    sectionName=STRING,
    port={"type": "integer"},
)
_BACKEND = _object("name", "port", name=STRING, port={"type": "integer", "minimum": 1, "maximum": 65535})

SCHEMAS = {
    "ServiceMonitor": _resource(
        "monitoring.coreos.com/v1",
        "ServiceMonitor",
        _object(
            "selector",
            "endpoints",
            selector=_object("matchLabels", matchLabels=LABELS),
            endpoints=_list(_ENDPOINT),
        ),
    ),
    "PrometheusRule": _resource(
        "monitoring.coreos.com/v1",
        "PrometheusRule",
        _object("groups", groups=_list(_object("name", "rules", name=STRING, rules=_list(_RULE)))),
    ),
    "HTTPRoute": _resource(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        _object(
            "parentRefs",
            "rules",
            parentRefs=_list(_PARENT),
            hostnames=_list(STRING),
            rules=_list(_object("backendRefs", backendRefs=_list(_BACKEND))),
        ),
    ),
}
