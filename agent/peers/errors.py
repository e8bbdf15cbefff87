"""What can go wrong between peers: one tree, each class with ``code``, a sentence and ``hint``."""

from __future__ import annotations

from certs.errors import TrustError, WrongNode
from protocol.messages import Problem


class PeerError(Exception):
    """Root of all errors of ``agent.peers``. ``hint`` may be given where more is known than the class knows."""

    code: str = "peer-error"
    hint: str = "Run 'backroom devices' to see which laptops are reachable."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class BadAddress(PeerError):
    """Text that is not an address."""

    code = "bad-address"
    hint = "Write HOST:PORT, for example 192.168.1.20:8765 or [fd00::20]:8765."

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:100]!r} is not an address.")


class NotFound(PeerError):
    """No address is known for a device, by mDNS, by memory or by configuration."""

    code = "peer-not-found"
    hint = "Check that the other laptop is on, on this network, and runs 'backroom run'; or give its --address."


class Unreachable(PeerError):
    """Addresses are known, but none answers."""

    code = "peer-unreachable"
    hint = (
        "Check that the other laptop is awake and runs Backroom (`backroom run`), that both are on one network, "
        "and its firewall."
    )


class NotTrusted(PeerError):
    """The two sides do not accept each other's certificate, or the roster does not name the other as active.

    Made from a ``TrustError``, it has that error's code, sentence and hint.
    """

    code = "not-trusted"
    hint = "Both laptops must belong to the same shop: run 'backroom invite' on one and 'backroom join' on the other."

    @classmethod
    def of(cls, error: TrustError) -> PeerError:
        """The same as an error between peers; ``WrongDevice`` where it is about another device than the one meant."""
        kind = WrongDevice if isinstance(error, WrongNode) else cls
        made = kind(str(error), hint=error.hint)
        made.code = error.code
        return made


class WrongDevice(PeerError):
    """Another device than the one meant answers, or a certificate does not fit its node ID."""

    code = "wrong-device"
    hint = "The address may have been given to another laptop. Run 'backroom devices' and try again."


class Refused(PeerError):
    """The peer answered and said no; ``code`` and ``hint`` are the peer's."""

    code = "refused"

    def __init__(self, problem: Problem, *, status: int = 0) -> None:
        super().__init__(problem.message, hint=problem.hint)
        self.code = problem.code
        self.status = status


class Interrupted(PeerError):
    """The connection broke or stood still, and trying again did not help within the time allowed."""

    code = "interrupted"
    hint = "Run the command again: it goes on where it stopped."


class TooOld(PeerError):
    """The two sides share no version of the protocol."""

    code = "version-mismatch"
    hint = "Update Backroom on the older laptop."


class BadAnswer(PeerError):
    """A peer's answer is not what PEER.md says."""

    code = "bad-answer"
    hint = "Update Backroom on both laptops to the same version."


class RequestError(PeerError):
    """A request that this laptop's peer server does not serve; ``status`` is the HTTP status that says so."""

    code = "bad-request"
    hint = "Update Backroom on both laptops to the same version."

    def __init__(self, status: int, code: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class Cancelled(PeerError):
    """A transfer that was cancelled for good, here or on the other side."""

    code = "cancelled"
    hint = "Push again if it should go on after all."


class ConnectionRefusedHere(PeerError):
    """The peer server closed a connection before any request."""

    code = "connection-refused"
    hint = "If this happens often, find out which machine the address belongs to."


class DiscoveryError(PeerError):
    """mDNS cannot be used on this machine."""

    code = "discovery-unavailable"
    hint = "Peers can still be reached by address: use --address HOST:PORT or list them in config.toml."


class WindowError(PeerError):
    """An invitation could not be opened, found or used."""

    code = "join-window"
    hint = "Run 'backroom invite' again and use the new code within five minutes."
