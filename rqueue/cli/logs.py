"""How the service logs: for people or as JSON, on the standard error."""

import logging

from pythonjsonlogger.orjson import OrjsonFormatter

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Text(logging.Formatter):
    """One line an event for people, with what was given beside the message as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _RESERVED}
        return " ".join([super().format(record), *(f"{name}={value!r}" for name, value in extra.items())])


def log_as(written: str, level: str, **always: object) -> None:
    """Log as set; `always` goes with every event."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: vars(record).update(always) or True)
    if written == "json":
        fields = "{asctime}{levelname}{name}{message}"
        handler.setFormatter(
            OrjsonFormatter(
                fields, style="{", rename_fields={"asctime": "time", "levelname": "level", "name": "logger"}
            )
        )
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
