"""Which other laptop is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.operations.errors import OperationError

if TYPE_CHECKING:
    from agent.operations.workspace import Workspace
    from certs.roster import Member


class WrongTarget(OperationError):
    code = "wrong-device"
    hint = "`backroom devices` lists the laptops of the shop."


def other_device(workspace: Workspace, text: str) -> Member:
    """The active device that ``text`` names and that is not this one. Raises ``TrustError`` or :class:`WrongTarget`."""
    member = workspace.store.require_shop().roster.find(text)
    if member.node_id == workspace.store.identity().node_id:
        raise WrongTarget(f"{member.name} is this laptop.")
    if not member.active:
        raise WrongTarget(f"{member.name} ({member.short_id}) was revoked.")
    return member
