"""The two ends of TLS, each made of PEM files. TLS 1.2 at least, Python's own defaults for the rest."""

import ssl
from pathlib import Path

from rqueue.errors import Refused


def server(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a port of our own: the certificate with its chain, and its key. Raises Refused."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, certificate, key)
    return context


def client(
    ca: Path | None, certificate: Path | None = None, key: Path | None = None, system: bool = False
) -> ssl.SSLContext:
    """For calling others, whose certificates and host names are verified. Raises Refused.

    Trusts `ca` alone, and the system's authorities where there is none, or with `system`; shows the
    certificate to who asks for one.
    """
    try:
        context = ssl.create_default_context(cafile=None if system else ca)
        if system and ca is not None:
            context.load_verify_locations(ca)
    except ssl.SSLError:
        raise Refused("expected certificates in PEM") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None and key is not None:
        _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        # Without a passphrase OpenSSL would ask for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Refused("the key is not that of the certificate") from None
        raise Refused("expected a certificate and its key without a passphrase, in PEM") from None
