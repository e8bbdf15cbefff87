"""TLS between devices of one shop, and who is at the other end.

TLS 1.3 with both certificates and without session tickets. OpenSSL checks the chain to the shop's authority, the key
usage, and (for a client that knows whom it wants) the name `<node_id>.backroom`. It is told to leave the dates alone:
`authenticate` checks them, so that an ended certificate or a wrong clock is answered with a sentence that has both
times in it, where OpenSSL would only break the connection. So **every connection must go through `authenticate` before
any work, on both sides, and every request again through `check_peer`**: that also makes `revoke` work at once.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import datetime

from certs import certificates
from certs.certificates import node_id_of_certificate
from certs.errors import BadCertificate, HandshakeFailed, NoCertificate, TrustError, WrongNode, WrongShop
from certs.keys import short_id, spki
from certs.roster import Member, Roster
from certs.store import Store

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h; Python's ssl has no name for it.
_NO_CHECK_TIME = 0x200000
# Verification results of OpenSSL's x509_vfy.h that mean: signed by someone else than this shop's authority.
_OTHER_ISSUER = frozenset({2, 7, 18, 19, 20, 21})
_HOSTNAME_MISMATCH = 62

OnRefused = Callable[[TrustError], None]


def server_context(store: Store, on_refused: OnRefused | None = None) -> ssl.SSLContext:
    """The context of a peer server: clients must show a certificate of this shop. Raises `NoShop`.

    Without `on_refused` a refusal is the `ssl.SSLError` of the handshake, and asyncio hangs up without telling the
    other side why. With it, the other side is sent TLS's alert, so that its log has the reason too, and `on_refused`
    is called with the reason here; the handshake itself then ends, when the other side has hung up, as a
    `ConnectionResetError`. `on_refused` runs in the handshake's thread and context: a context variable set before
    `loop.connect_accepted_socket` or `loop.create_connection` is seen in it. It is also called when the other side's
    alert arrives. Set a handshake timeout: one that is refused and stays is dropped by that alone.
    """
    context = _ReportingContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, store)
    context.num_tickets = 0
    context.on_refused = on_refused
    return context


def client_context(store: Store, on_refused: OnRefused | None = None, *, check_node: bool = True) -> ssl.SSLContext:
    """The context of a peer client. Raises `NoShop`.

    With `check_node` (the default) connections must pass `server_hostname=keys.server_name(node_id)`, and a server
    with another node's certificate is refused within the handshake. Without it (an address whose owner is not known
    yet) the caller learns the node from `authenticate` and must send nothing before. `on_refused` is as for
    `server_context`: with it, a server that this client refuses is told why.
    """
    context = _ReportingContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context, store)
    context.on_refused = on_refused
    context.check_hostname = check_node
    return context


def _prepare(context: ssl.SSLContext, store: Store) -> None:
    paths = store.tls_files()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = ssl.VerifyFlags(context.verify_flags | ssl.VERIFY_X509_STRICT | _NO_CHECK_TIME)
    context.load_cert_chain(paths.certificate, paths.key)
    context.load_verify_locations(paths.authority)


class _ReportingObject(ssl.SSLObject):
    """Makes a refusal heard on both sides; asyncio by itself drops the alert for the other side.

    asyncio sends what OpenSSL has written only when a handshake step asks for more input. So a step that failed with
    an alert to send asks for more, once: the alert goes out, the other side reads it and closes the connection.
    """

    on_refused: OnRefused | None = None
    outgoing: ssl.MemoryBIO | None = None
    failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self.failure is not None:
            raise self.failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self.on_refused is not None:
                self.on_refused(_explained(error))
            if self.on_refused is None or self.outgoing is None or not self.outgoing.pending:
                raise
            self.failure = error
            raise ssl.SSLWantReadError from error


class _ReportingContext(ssl.SSLContext):
    """A context whose connections report what they refuse."""

    on_refused: OnRefused | None = None
    sslobject_class = _ReportingObject

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        wrapped = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if isinstance(wrapped, _ReportingObject):
            wrapped.on_refused = self.on_refused
            wrapped.outgoing = outgoing
        return wrapped


def _peer_certificate(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    certificate = ssl_object.getpeercert(binary_form=True)
    if not certificate:
        raise NoCertificate("The other side of the connection showed no certificate.")
    return certificate


def peer_node_id(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> str:
    """The node ID at the other end of an established connection (`transport.get_extra_info("ssl_object")`).

    Computed from the key that the handshake proved. Raises `NoCertificate`, `BadCertificate`.
    """
    return node_id_of_certificate(_peer_certificate(ssl_object))


def check_peer(roster: Roster, node_id: str, expected: str | None = None) -> Member:
    """The active device with this node ID, to be called with the present roster on every request.

    `expected` is the node ID that was dialled, or that the other side claims to be. Raises `WrongNode`,
    `UnknownDevice`, `RevokedDevice`.
    """
    if expected is not None and node_id != expected:
        claimed = _described(roster, expected)
        raise WrongNode(f"The certificate belongs to {_described(roster, node_id)}, not to {claimed}.")
    return roster.require(node_id)


def reload(context: ssl.SSLContext, store: Store) -> None:
    """Let the connections that follow use this device's present certificate and know the shop's present authority."""
    paths = store.tls_files()
    context.load_cert_chain(paths.certificate, paths.key)
    context.load_verify_locations(paths.authority)


def authenticate(
    ssl_object: ssl.SSLObject | ssl.SSLSocket,
    roster: Roster,
    now: datetime,
    expected: str | None = None,
    *,
    dates: bool = True,
) -> Member:
    """Who is at the other end of a connection: key, names and dates of the certificate, then `check_peer`.

    `now` is UTC. Without `dates` a certificate that is out of its time passes: for asking clocks and renewing, nothing
    else. Raises what `check_peer` raises, `ExpiredCertificate` and `CertificateNotYetValid` with both times,
    `BadCertificate`, `NoCertificate`.
    """
    certificate = _peer_certificate(ssl_object)
    member = check_peer(roster, node_id_of_certificate(certificate), expected)
    if dates:
        certificates.check_dates(certificate, now)
    return member


def peer_public_key(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """The public key (SPKI DER) that the other end has proved. Raises `NoCertificate`, `BadCertificate`."""
    return spki(certificates.public_key(_peer_certificate(ssl_object)))


def peer_dates(ssl_object: ssl.SSLObject | ssl.SSLSocket, now: datetime) -> TrustError | None:
    """What is wrong with the dates of the other end's certificate at this time, or None."""
    try:
        certificates.check_dates(_peer_certificate(ssl_object), now)
    except TrustError as error:
        return error
    return None


def _described(roster: Roster, node_id: str) -> str:
    member = roster.member(node_id)
    return short_id(node_id) if member is None else f"{member.name} ({member.short_id})"


def explain(error: BaseException) -> TrustError | None:
    """The trust error behind a failed connection, if there is one: looks through causes for an `ssl.SSLError`.

    Both ends of a refusal are told apart: a verification error is our refusal of them, an alert theirs of us (with
    TLS 1.3 a client sees that alert at its first read, not in the handshake).
    """
    seen: set[int] = set()
    vague: ssl.SSLError | None = None
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, TrustError):
            return found
        if isinstance(found, ssl.SSLError):
            if getattr(found, "reason", None):
                return _explained(found)
            vague = found
        # aiohttp's own errors are SSLErrors in name, and keep the real one in an attribute.
        inner = getattr(found, "certificate_error", None) or getattr(found, "os_error", None)
        found = found.__cause__ or inner or found.__context__
    return None if vague is None else HandshakeFailed(f"The TLS connection failed: {vague}.")


def _explained(error: ssl.SSLError) -> TrustError:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_ISSUER:
            return WrongShop("The other side showed a certificate that was not made by this shop's authority.")
        if error.verify_code == _HOSTNAME_MISMATCH:
            return WrongNode(
                "The other side showed the certificate of another device of this shop than the one dialled."
            )
        return BadCertificate(f"The other side's certificate was refused: {error.verify_message}.")
    reason = getattr(error, "reason", None) or ""
    if "PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return NoCertificate("The other side of the connection showed no certificate.")
    if "CERTIFICATE_REQUIRED" in reason:
        return NoCertificate("The other side demands a certificate and this connection showed none.")
    if "UNKNOWN_CA" in reason:
        return WrongShop("The other side refused this device's certificate: it belongs to another shop.")
    if "BAD_CERTIFICATE" in reason:
        return WrongNode("The other side refused this device's certificate: it wanted to reach another device.")
    return HandshakeFailed(f"The TLS connection failed: {reason.replace('_', ' ').lower() or error}.")
