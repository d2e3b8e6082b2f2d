"""Certificates made for a test: authorities, and what they issue, as PEM files."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key."""

    certificate: Path
    key: Path


class Authority:
    """An authority of a test's own; `path` is its certificate."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self._directory = directory
        self._issued = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.path)

    def issue(self, *hosts: str) -> Pair:
        """A new certificate for these hosts."""
        self._issued += 1
        pair = Pair(
            self._directory / f"{self._issued}-cert.pem",
            self._directory / f"{self._issued}-key.pem",
        )
        issued = self._ca.issue_cert(*hosts)
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pair.key)
        return pair

    def trusted(self) -> ssl.SSLContext:
        """For a client that trusts this authority alone."""
        return ssl.create_default_context(cafile=self.path)


def served(pair: Pair) -> ssl.SSLContext:
    """For a server with this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def serial(pem: Path) -> str:
    """The serial number of a certificate, in hexadecimal, as ssl's getpeercert shows it."""
    from cryptography import x509

    number = x509.load_pem_x509_certificate(pem.read_bytes()).serial_number
    text = f"{number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"
