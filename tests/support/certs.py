"""Certificates of a private authority, made for each run of the suite."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import trustme


class Certs(NamedTuple):
    """PEM files: one authority with a server and a client below it, and an authority nobody knows."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    unknown_ca: Path


def make_certs(folder: Path) -> Certs:
    """Write all of `Certs` into `folder`. The server's certificate is for localhost and 127.0.0.1."""
    certs = Certs(*(folder / f"{name}.pem" for name in Certs._fields))
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    client = authority.issue_cert("limpet-client")
    authority.cert_pem.write_to_path(certs.ca)
    trustme.CA().cert_pem.write_to_path(certs.unknown_ca)
    for issued, cert, key in (
        (server, certs.server_cert, certs.server_key),
        (client, certs.client_cert, certs.client_key),
    ):
        for blob in issued.cert_chain_pems:
            blob.write_to_path(cert, append=True)
        issued.private_key_pem.write_to_path(key)
    return certs
