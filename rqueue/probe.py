"""Asks the service that runs here whether it is ready, as an image's health check does.

From the outside, by its own port: knows the settings and neither Redis nor the web's code.
"""

import http.client
import ipaddress
import ssl

from rqueue.errors import NotReady

SECONDS = 4.0


def ask(host: str, port: int, tls: bool = False) -> None:
    """Return where the service on this host and port is ready. Raises NotReady, saying why.

    One that listens on all addresses is asked on loopback. Its certificate is for others: nothing is
    said here that must be kept from anybody, so it is not checked.
    """
    asked = _on_loopback(host)
    connection = http.client.HTTPConnection(asked, port, timeout=SECONDS)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(asked, port, timeout=SECONDS, context=context)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        said = response.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"no answer from {asked} port {port}: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise NotReady(f"{response.status} {said}")


def _on_loopback(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return ("127.0.0.1" if address.version == 4 else "::1") if address.is_unspecified else host
