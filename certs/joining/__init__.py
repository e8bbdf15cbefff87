"""Joining a shop by a short code: both sides as state machines without I/O (TRUST.md, "Joining").

Three requests and their replies, all bytes, from the joining device to the inviting one:

    start     key, SPAKE2                        ->   key, SPAKE2
    confirm   proof of the code                  ->   proof of the code; who invites, which shop (sealed)
    enrol     who joins, proof of key (sealed)   ->   certificate, authority, roster (sealed), or no

`JoinSide.first_message` and `JoinSide.receive` make the requests, `InviteSide.receive` and `InviteSide.decide` the
replies. SPAKE2 here is pure Python, some 10 ms of computing for each side: async callers run `first_message` and both
`receive` methods in a thread. Each object may be used from several threads.
"""

from certs.joining.invite import Answer, InviteSide, JoinRequest
from certs.joining.join import Inviter, JoinSide

__all__ = ["Answer", "InviteSide", "Inviter", "JoinRequest", "JoinSide"]
