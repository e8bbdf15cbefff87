"""The joining side: a device that was told a code and wants into the shop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from certs import certificates, keys
from certs.authority import Membership
from certs.codes import Code
from certs.errors import AlreadyInShop, JoinDeclined, Malformed, OutOfTurn
from certs.identity import Identity, check_name
from certs.joining import exchange, messages
from certs.joining.exchange import Spake, Transcript
from certs.keys import load_spki, node_id_of_key, short_id
from certs.roster import SignedRoster
from certs.wire import pack, unpack


@dataclass(frozen=True, slots=True)
class Inviter:
    """Who invites, proved by code and key: for the person at the joining laptop to see, and to stop if it is wrong."""

    name: str
    node_id: str
    shop_name: str
    shop_id: str
    authority: bytes = field(repr=False)

    @property
    def short_id(self) -> str:
        """The node ID for people; the inviting laptop shows the same."""
        return short_id(self.node_id)


class JoinSide:
    """One attempt to join. Send `first_message()`, give each reply to `receive` and send what it returns, until None.

    After the second reply `inviter` is set; a caller that does not like it simply stops. At the end `result` is what
    `Store.join_result` keeps. `shop_id` is the shop that this device is in already, if any: an invitation of
    another one is refused before anything is told to it.
    """

    def __init__(self, code: Code, identity: Identity, shop_id: str | None = None) -> None:
        self.inviter: Inviter | None = None
        self.result: Membership | None = None
        self._code = code
        self._identity = identity
        self._shop_id = shop_id
        self._step = "new"
        self._transcript = Transcript()
        self._session = b""
        self._shared = b""
        self._inviter_key = b""
        self._spake: Spake | None = None
        self._guard = threading.Lock()

    def first_message(self) -> bytes:
        """The request that starts the join. To be called once; computes for some milliseconds."""
        with self._guard:
            if self._step != "new":
                raise OutOfTurn("This join was started before.")
            self._spake = Spake(self._code, joiner=True)
            key = self._identity.public_key
            message = {"step": "start", "format": messages.FORMAT, "window": self._code.window, "key": key}
            data = pack({**message, "spake": self._spake.message})
            self._transcript.add(data)
            self._step = "start"
            return data

    def receive(self, reply: bytes) -> bytes | None:
        """Take the reply to the last request; return the next request, or None when the join is complete.

        Raises `WrongCode` if the inviter has another code or someone stands between, `WindowClosed`, `NoWindow`,
        `JoinDeclined`, `AlreadyInShop`, and other `TrustError`s; after an error the attempt is over.
        """
        with self._guard:
            step, self._step = self._step, "failed"
            match step:
                case "start":
                    data = self._after_start(reply)
                case "confirm":
                    data = self._after_confirm(reply)
                case "enrol":
                    self.result = self._after_enrol(reply)
                    self._step = "done"
                    return None
                case _:
                    raise OutOfTurn("This join expects no reply.")
            self._step = "confirm" if step == "start" else "enrol"
            return data

    def _after_start(self, reply: bytes) -> bytes:
        message = messages.read_reply(reply, "start", messages.START_REPLY)
        load_spki(message["key"])
        if self._spake is None:
            raise OutOfTurn("This join was not started.")
        self._session, self._inviter_key = message["session"], message["key"]
        self._shared = self._spake.finish(message["spake"], self._identity.public_key, self._inviter_key)
        self._transcript.add(reply)
        proof = exchange.prove(self._shared, self._transcript.digest, b"joiner")
        return self._request({"step": "confirm", "session": self._session, "proof": proof})

    def _after_confirm(self, reply: bytes) -> bytes:
        message = messages.read_reply(reply, "confirm", messages.CONFIRM_REPLY)
        digest = self._transcript.digest
        exchange.check_proof(self._shared, digest, b"inviter", message["proof"])
        plain = exchange.unseal(self._shared, digest, b"inviter", message["sealed"])
        about = unpack(plain, messages.INVITER, what="The inviter's part", limit=messages.MAX_MESSAGE)
        key = load_spki(self._inviter_key)
        keys.verify(key, about["signature"], exchange.PROTOCOL + b" inviter\x00" + digest, what="the inviter")
        shop_id = certificates.check_authority(about["authority"])
        name, shop_name = check_name(about["name"]), check_name(about["shop_name"])
        if self._shop_id not in (None, shop_id):
            raise AlreadyInShop(f"{name} invites into {shop_name}, but this laptop belongs to another shop already.")
        self.inviter = Inviter(name, node_id_of_key(self._inviter_key), shop_name, shop_id, about["authority"])
        self._transcript.add(reply)
        digest = self._transcript.digest
        signature = self._identity.sign(exchange.PROTOCOL + b" joiner\x00" + digest)
        plain = pack({"name": self._identity.name, "signature": signature})
        sealed = exchange.seal(self._shared, digest, b"joiner", plain)
        return self._request({"step": "enrol", "session": self._session, "sealed": sealed})

    def _after_enrol(self, reply: bytes) -> Membership:
        message = messages.read_reply(reply, "enrol", messages.ENROL_REPLY, limit=messages.MAX_LAST_REPLY)
        plain = exchange.unseal(self._shared, self._transcript.digest, b"membership", message["sealed"])
        inviter = self.inviter
        if inviter is None:
            raise OutOfTurn("The inviter is not known yet.")
        if plain == pack({"declined": True}):
            raise JoinDeclined(f"{inviter.name} ({inviter.short_id}) declined to let this laptop into the shop.")
        brought = unpack(plain, messages.MEMBERSHIP, what="The membership", limit=messages.MAX_LAST_REPLY)
        if certificates.check_device(brought["certificate"], inviter.authority) != self._identity.node_id:
            raise Malformed("The certificate received is for another device than this one.")
        signed = SignedRoster.verify(brought["roster"], inviter.shop_id)
        if signed.authority != inviter.authority:
            raise Malformed("The roster received is signed by another authority than the certificate.")
        roster = signed.roster
        roster.require(self._identity.node_id)
        roster.require(inviter.node_id)
        return Membership(brought["certificate"], inviter.authority, brought["roster"])

    def _request(self, message: dict[str, object]) -> bytes:
        data = pack(message)
        self._transcript.add(data)
        return data
