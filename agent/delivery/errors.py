"""Why a delivery failed: the text is the message to the user, ``hint`` what to do next.

``temporary`` says whether trying the same again later may help: the queue goes by it.
"""

from __future__ import annotations


class DeliveryError(Exception):
    """Root of this package's errors."""

    code = "delivery"
    hint = ""
    temporary = False

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UnreachableError(DeliveryError):
    """The place did not answer, or the connection broke off."""

    code = "unreachable"
    hint = "It is tried again by itself. Check the network and the place's settings with `backroom delivery test`."
    temporary = True


class LoginError(DeliveryError):
    """The place does not take the user or the password, or this user may not write there."""

    code = "login-refused"
    hint = "Correct the user, the password or the rights, then `backroom delivery retry`."


class RejectedError(DeliveryError):
    """The place answered and said no for good."""

    code = "delivery-rejected"


class TooLargeError(DeliveryError):
    """More than the place takes. Said before anything is sent."""

    code = "too-large"


class NoSpaceError(DeliveryError):
    """The place is full."""

    code = "no-space"
    hint = "Free some space there; it is tried again by itself."
    temporary = True


class NotVerifiedError(DeliveryError):
    """What is there now is not what was sent."""

    code = "not-verified"
    hint = "It is tried again by itself. If it goes on, the disk or the network over there is faulty."
    temporary = True


class BadPlaceError(DeliveryError):
    """The settings or the address of a place cannot be used."""

    code = "bad-place"
    hint = (
        "`backroom delivery list` shows the places; addresses look like path:/mnt/nas, smb://server/share, s3://bucket."
    )


class NoSuchJobError(DeliveryError):
    """The queue has no such delivery."""

    code = "no-such-delivery"
    hint = "`backroom delivery queue` lists those that wait."
