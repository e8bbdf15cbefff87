"""The messages of joining: msgpack maps with exact fields, at most 4 KiB (the last reply, with the roster, more)."""

from __future__ import annotations

from typing import Any

from certs.errors import (
    JoinDeclined,
    JoinError,
    Malformed,
    NoWindow,
    OutOfTurn,
    TrustError,
    WindowClosed,
    WrongCode,
)
from certs.roster import MAX_AROUND, MAX_ROSTER
from certs.wire import Fields, pack, unpack

FORMAT = 1
MAX_MESSAGE = 4096
MAX_LAST_REPLY = MAX_ROSTER + MAX_AROUND + 3 * 4096

START: Fields = {"step": str, "format": int, "window": int, "key": bytes, "spake": bytes}
START_REPLY: Fields = {"step": str, "session": bytes, "key": bytes, "spake": bytes}
CONFIRM: Fields = {"step": str, "session": bytes, "proof": bytes}
CONFIRM_REPLY: Fields = {"step": str, "proof": bytes, "sealed": bytes}
ENROL: Fields = {"step": str, "session": bytes, "sealed": bytes}
ENROL_REPLY: Fields = {"step": str, "sealed": bytes}
ERROR: Fields = {"step": str, "code": str}

# What is inside the sealed parts.
INVITER: Fields = {"name": str, "shop_name": str, "authority": bytes, "signature": bytes}
JOINER: Fields = {"name": str, "signature": bytes}
MEMBERSHIP: Fields = {"certificate": bytes, "roster": bytes}

_REQUESTS = {"start": START, "confirm": CONFIRM, "enrol": ENROL}
_TOLD: dict[str, JoinError] = {
    error.code: error
    for error in (
        WrongCode("The other laptop does not have the same code."),
        WindowClosed("The invitation is over: it was used, ran out, or was closed by wrong codes."),
        NoWindow("The other laptop has no open invitation with this number."),
        JoinDeclined("The admin declined."),
        OutOfTurn("The other laptop lost track of this join."),
    )
}


def read_request(data: bytes) -> dict[str, Any]:
    """Any of the three requests; its "step" tells which. Raises `Malformed`."""
    for fields in _REQUESTS.values():
        try:
            message = unpack(data, fields, what="The join message", limit=MAX_MESSAGE)
        except Malformed:
            continue
        if _REQUESTS.get(message["step"]) is fields:
            return message
    raise Malformed("The join message cannot be understood.")


def read_reply(data: bytes, step: str, fields: Fields, *, limit: int = MAX_MESSAGE) -> dict[str, Any]:
    """The reply to the request `step`. An error reply is raised as the error it names.

    An error reply is not authenticated (there may be no key yet), so only its code is used, never its words.
    """
    try:
        error = unpack(data, ERROR, what="The join reply", limit=limit)
    except Malformed:
        pass
    else:
        told = _TOLD.get(error["code"])
        if told is not None:
            raise type(told)(str(told))
        raise JoinError("The other laptop broke the join off.")
    reply = unpack(data, fields, what="The join reply", limit=limit)
    if reply["step"] != step:
        raise OutOfTurn(f"The reply is to {reply['step'][:20]!r}, but {step!r} was asked.")
    return reply


def write_error(error: TrustError) -> bytes:
    """The reply that tells the other side the code of an error."""
    return pack({"step": "error", "code": error.code})
