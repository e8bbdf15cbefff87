"""What waits for a person on this laptop: requests, their answers, and standing permissions.

One file each below ``state/requests``; any process may answer, the one that waits looks at the file. What a request
asks for never happens without an answer, and not after it has expired.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent.home import Home
from agent.operations.errors import OperationError
from agent.operations.workspace import Workspace, person, utc_now
from certs import files
from certs.errors import TrustError

if TYPE_CHECKING:
    from certs.members import Member

WAITING, APPROVED, DECLINED, EXPIRED, DONE, FAILED = "waiting", "approved", "declined", "expired", "done", "failed"
PushMode = Literal["newer", "bundle"]
MODES: tuple[PushMode, ...] = ("newer", "bundle")
STORE = "store"
"""The mode of a push that only looks: it is planned over there and waits for the push itself (PEER.md)."""
BUNDLE: PushMode = "bundle"
"""The mode of a push in which its rows win over those here."""
WAITS = "waiting-for-approval"
"""The code of a push that goes on when a person has said yes."""
LIFETIME = timedelta(days=2)
KEPT = timedelta(days=30)
"""How long what is over is listed."""
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class NoSuchRequest(OperationError):
    code = "no-such-request"
    hint = "`backroom requests` lists what waits."


class RequestOver(OperationError):
    code = "request-over"
    hint = "Let it be asked for again."


@dataclass(frozen=True, slots=True)
class Request:
    """Something that a device of the shop asks for.

    ``what``: ``push`` or ``renewal``; ``key`` names the matter, so that asking again finds the same request; ``plan``
    is what would happen, as a restore plan tells it; ``state``: waiting, approved, declined, expired, done, failed.
    """

    id: str
    what: str
    key: str
    node_id: str
    device: str
    text: str
    created: str
    expires: str
    state: str = WAITING
    business_id: str | None = None
    business: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    answered_by: str | None = None
    answered_at: str | None = None
    outcome: str = ""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Permission:
    """A standing yes: pushes in ``mode`` of this business from this device are not asked about.

    ``admitted`` is when the roster says that the device joined ("" where that was not noted).
    """

    node_id: str
    device: str
    business_id: str
    business: str
    mode: str
    given_by: str
    given_at: str
    admitted: str = ""


class Requests:
    """The requests and permissions of one data folder. The methods block for small files."""

    def __init__(self, home: Home) -> None:
        self._workspace = Workspace(home)
        self._folder = home.state / "requests"
        self._lock = home.state / "requests.lock"
        self._permissions = home.state / "permissions.json"

    def ask(
        self,
        what: str,
        key: str,
        node_id: str,
        device: str,
        text: str,
        *,
        business_id: str | None = None,
        business: str | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> Request:
        """The request about this matter: the one that waits or was answered, else a new one."""
        with files.locked(self._lock):
            for known in self._all():
                if known.key == key and known.state in (WAITING, APPROVED):
                    return known
                if known.key == key and known.state == DECLINED and datetime.fromisoformat(known.expires) > utc_now():
                    return known
            now = utc_now()
            made = Request(
                id="".join(secrets.choice(_ALPHABET) for _ in range(5)),
                what=what,
                key=key,
                node_id=node_id,
                device=device,
                text=text,
                created=now.isoformat(timespec="seconds"),
                expires=(now + LIFETIME).isoformat(timespec="seconds"),
                business_id=business_id,
                business=business,
                plan=plan or {},
            )
            self._write(made)
            return made

    def all(self) -> tuple[Request, ...]:
        """All that are known, those that wait first, then the newest first. Expired ones are marked as such."""
        with files.locked(self._lock):
            return tuple(sorted(self._all(), key=_place))

    def get(self, request_id: str) -> Request:
        """One request as it stands. Raises :class:`NoSuchRequest`."""
        with files.locked(self._lock):
            return self._get(request_id)

    def about(self, key: str) -> Request | None:
        """The newest request about a matter."""
        with files.locked(self._lock):
            found = [each for each in self._all() if each.key == key]
        return max(found, key=lambda each: each.created, default=None)

    def answer(self, request_id: str, *, yes: bool, always: PushMode | None = None) -> Request:
        """Say yes or no; with ``always`` the yes to a push in that mode is a standing one (see :meth:`permit`).

        Raises :class:`NoSuchRequest`, and :class:`RequestOver` where it does not wait any more; nothing is permitted
        then.
        """
        with files.locked(self._lock):
            found = self._get(request_id)
            if found.state != WAITING:
                raise RequestOver(f"Request {found.id} does not wait any more: it is {found.state}.")
            given = self._permission(found, always) if yes and always else None
            changed = replace(
                found,
                state=APPROVED if yes else DECLINED,
                answered_by=person(),
                answered_at=utc_now().isoformat(timespec="seconds"),
            )
            self._write(changed)
            if given is not None:
                self._keep(given)
            return changed

    def close(self, request_id: str, state: str, outcome: str = "") -> None:
        """Note how an answered request ended: done or failed."""
        with files.locked(self._lock):
            self._write(replace(self._get(request_id), state=state, outcome=outcome[:500]))

    # Standing permissions.

    def permissions(self) -> tuple[Permission, ...]:
        """All standing permissions. They end where their device is revoked, and stay so when it is admitted again."""
        try:
            given = [Permission(**each) for each in json.loads(self._permissions.read_text("utf-8"))]
        except FileNotFoundError:
            return ()
        return tuple(each for each in given if self._stands(each))

    def permitted(self, node_id: str, business_id: str, mode: str) -> bool:
        """Whether a push need not be asked about."""
        return any((p.node_id, p.business_id, p.mode) == (node_id, business_id, mode) for p in self.permissions())

    def permit(self, request: Request, mode: str) -> Permission:
        """Make the yes to a push a standing one, for its device and business."""
        given = self._permission(request, mode)
        with files.locked(self._lock):
            self._keep(given)
        return given

    def forbid(self, node_id: str, business_id: str | None = None) -> int:
        """Take permissions of a device back (for one business or all); how many there were."""
        with files.locked(self._lock):
            kept = [
                each
                for each in self.permissions()
                if each.node_id != node_id or business_id not in (None, each.business_id, each.business)
            ]
            gone = len(self.permissions()) - len(kept)
            if gone:
                self._write_permissions(kept)
            return gone

    def _permission(self, request: Request, mode: str) -> Permission:
        if request.what != "push" or request.business_id is None:
            raise OperationError("Only pushes of a business can be permitted for good.")
        member = self._member(request.node_id)
        return Permission(
            node_id=request.node_id,
            device=request.device,
            business_id=request.business_id,
            business=request.business or request.business_id,
            mode=mode,
            given_by=person(),
            given_at=utc_now().isoformat(timespec="seconds"),
            admitted=_admitted(member) if member else "",
        )

    def _keep(self, given: Permission) -> None:
        others = [each for each in self.permissions() if not _same(each, given)]
        self._write_permissions([*others, given])

    def _stands(self, given: Permission) -> bool:
        member = self._member(given.node_id)
        if member is None:  # whoever the roster does not have gets as far as no push
            return True
        if not member.active:
            return False
        # The roster's times are those of an admin's clock, so they are compared with each other where that can be.
        return given.admitted == _admitted(member) if given.admitted else given.given_at >= _admitted(member)

    def _member(self, node_id: str) -> Member | None:
        try:
            return self._workspace.store.roster().member(node_id)
        except TrustError:
            return None

    def _write_permissions(self, permissions: list[Permission]) -> None:
        files.replace_private(self._permissions, json.dumps([asdict(each) for each in permissions]).encode())

    def _all(self) -> list[Request]:
        now, found = utc_now(), []
        for path in self._folder.glob("*.json"):
            each = _read(path)
            if each is None:
                continue
            if each.state == WAITING and datetime.fromisoformat(each.expires) < now:
                each = replace(each, state=EXPIRED)
                self._write(each)
            if each.state != WAITING and datetime.fromisoformat(each.created) < now - KEPT:
                path.unlink(missing_ok=True)
                continue
            found.append(each)
        return found

    def _get(self, request_id: str) -> Request:
        wanted = request_id.strip().lower()
        for each in self._all():
            if each.id == wanted:
                return each
        raise NoSuchRequest(f"There is no request {request_id!r}.")

    def _write(self, request: Request) -> None:
        files.make_private_folder(self._folder)
        files.replace_private(self._folder / f"{request.id}.json", json.dumps(asdict(request)).encode())


def _place(request: Request) -> tuple[bool, float]:
    return request.state != WAITING, -datetime.fromisoformat(request.created).timestamp()


def _admitted(member: Member) -> str:
    return member.added.astimezone(UTC).isoformat(timespec="seconds")


def _same(one: Permission, other: Permission) -> bool:
    return (one.node_id, one.business_id, one.mode) == (other.node_id, other.business_id, other.mode)


def _read(path: Path) -> Request | None:
    try:
        return Request(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
