"""A secret by which callbacks are signed, as the Standard Webhooks scheme has it."""

import base64

PREFIX = "whsec_"
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
MIN_BYTES, MAX_BYTES = 24, 64


def key_of(secret: str) -> bytes:
    """The key in a secret, which is whsec_ and its base64. Raises ValueError, saying so, for what is none."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:
        key = b""
    if not (secret.startswith(PREFIX) and MIN_BYTES <= len(key) <= MAX_BYTES):
        raise ValueError(f"a secret is {PREFIX} and base64 of {MIN_BYTES} to {MAX_BYTES} bytes")
    return key
