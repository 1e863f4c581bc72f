"""What a certificate says, in words: pure functions over what the `ssl` module decodes."""

from __future__ import annotations

from collections.abc import Sequence

from agent.http.certificates import Certificate, ends
from agent.ops.doctor.step import Finding, fine, warning

DAY = 86400.0
SOON = 14
"""A certificate that ends in fewer days is a warning."""

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN = frozenset((2, 18, 19, 20, 21))
_OTHER_NAME = frozenset((62, 64))


def names(certificate: Certificate) -> str:
    """Return the names that it is for."""
    found = [str(value) for _, value in certificate.get("subjectAltName", ())]
    return ", ".join(found) or _who(certificate.get("subject", ()))


def issuer(certificate: Certificate) -> str:
    """Return the name of the authority that signed it."""
    return _who(certificate.get("issuer", ()))


def _who(name: Sequence[Sequence[tuple[str, str]]]) -> str:
    parts = {key: value for group in name for key, value in group}
    if "commonName" in parts:
        return parts["commonName"]
    known = [parts[key] for key in ("organizationName", "organizationalUnitName") if key in parts]
    return ", ".join(known) or "nobody in particular"


def verdict(chain: Sequence[Certificate], how: str, now: float, *, verified: bool) -> Finding:
    """Return the finding for an accepted chain, the receiver's own certificate first. `how`: the version of TLS."""
    first = min(chain, key=ends)
    left = int((ends(first) - now) // DAY)
    span = f"{left} days left" if left >= 0 else "expired"
    of = "" if first is chain[0] else f" of {names(first)}"
    trust = f"verified by a chain of {len(chain)}" if verified else "NOT verified (insecure_skip_verify)"
    said = f"{how}, for {names(chain[0])}, issued by {issuer(chain[0])}, {span}{of}, {trust}"
    if left < SOON:
        return warning(said, f"Renew the certificate of {names(first)}.")
    return fine(said)


def refused(code: int, whose: str = "receiver", section: str = "") -> str:
    """Return what to do where the handshake with the `whose` failed; `section` is where its keys are.

    `code` is OpenSSL's, where the certificate was not accepted; else 0.
    """
    tls = f"{section}tls_config"
    if code == _EXPIRED:
        return f"Renew the {whose}'s certificate, unless this host's clock is wrong."
    if code == _NOT_YET:
        return "Set this host's clock, unless the certificate is really meant for later."
    if code in _UNKNOWN:
        return f"Set {tls}.ca_file to the certificate of the authority that signed the {whose}'s."
    if code in _OTHER_NAME:
        return f"Use a name in the url that the certificate is for, or set {tls}.server_name to one."
    return f"Check that this port speaks TLS, and min_version and max_version of {tls}."
