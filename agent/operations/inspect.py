"""A bundle file as it is: manifest, seal, and whether this laptop knows who made it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.engine.bundle_file import VerifiedBundle, manifest_of, verify_bundle
from agent.engine.progress import BYTES, Progress, Step, silent
from agent.operations.errors import OperationError, UntrustedSource
from agent.operations.workspace import Workspace
from agent.reading import Opener, plainly, size_of
from agent.sealing.errors import DamagedSealError
from certs.errors import TrustError
from certs.identity import verify_signature
from protocol.errors import ProtocolError
from protocol.manifest import Manifest

_HEAD_BYTES = 64
_GZIP = b"\x1f\x8b"


class PlatformFile(OperationError):
    """A file in the platform's JSON form was given where a bundle is meant."""

    code = "platform-file"


@dataclass(frozen=True, slots=True)
class Inspected:
    """``valid`` says whether frames, totals and signature hold; ``problem`` what does not. ``known`` is how this laptop
    knows the maker: "this laptop", "member", "admin", "revoked" or "unknown"."""

    file: Path
    size: int
    manifest: Manifest
    valid: bool
    known: str
    problem: str = ""
    problem_code: str = ""

    @property
    def seal_text(self) -> str:
        """The verdict in one line."""
        if not self.valid:
            return f"NOT VALID: {self.problem}"
        who = {
            "this laptop": "made by this laptop",
            "unknown": f"made by {self.manifest.source_node}, which this laptop does not know",
            "revoked": f"made by {self.manifest.source_device}, which was REVOKED",
        }.get(self.known, f"made by {self.manifest.source_device}, {self.known} of this shop")
        return f"valid, {who}"

    def as_dict(self) -> dict[str, object]:
        manifest = self.manifest
        return {
            "file": str(self.file),
            "bytes": self.size,
            "valid": self.valid,
            "problem": {"code": self.problem_code, "message": self.problem} if self.problem else None,
            "made_by": {"node_id": manifest.source_node, "name": manifest.source_device, "known": self.known},
            "bundle_id": manifest.bundle_id,
            "version": manifest.version,
            "kind": manifest.kind.value,
            "business": {"id": manifest.business.id, "name": manifest.business.name} if manifest.business else None,
            "shop": {"id": manifest.shop_id, "name": manifest.shop_name} if manifest.shop_id else None,
            "target_node": manifest.target_node,
            "created": manifest.created,
            "created_by": manifest.created_by,
            "options": {"compress": manifest.options.compress, "include_demo": manifest.options.include_demo},
            "schema_fingerprint": manifest.schema_fingerprint,
            "server_version": manifest.server_version,
            "rows": manifest.total_rows,
            "tables": [
                {
                    "table": entry.table,
                    "section": entry.section.value,
                    "rows": entry.rows,
                    "stub": entry.stub,
                    "columns": len(entry.columns),
                    "key": list(entry.key),
                }
                for entry in manifest.tables
            ],
            "warnings": list(manifest.warnings),
        }


def refuse_platform_file(path: Path, opener: Opener = plainly) -> None:
    """Raise :class:`PlatformFile` where the file begins as the platform's own backup files do. Blocking."""
    with opener(path) as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_GZIP) or head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise PlatformFile(
            f"{path.name} is a backup file of the platform, not a bundle.",
            f"Take it in with `backroom import {path.name}`; with --restore it is restored at once.",
        )


def known_as(workspace: Workspace, node_id: str) -> str:
    """How this laptop knows a node: "this laptop", its role in the shop, "revoked" or "unknown"."""
    if node_id == workspace.store.identity().node_id:
        return "this laptop"
    shop = workspace.store.shop()
    member = shop.roster.member(node_id) if shop else None
    if member is None:
        return "unknown"
    return member.role.value if member.active else "revoked"


async def inspect_bundle(workspace: Workspace, path: Path) -> Inspected:
    """Read the file to its end. Damage is a verdict, not an error, as long as the manifest can be read."""
    opener = workspace.bundle_files.open
    await asyncio.to_thread(refuse_platform_file, path, opener)
    size = (await asyncio.to_thread(path.stat)).st_size
    try:
        bundle = await verify_bundle(path, verify_signature, opener=opener)
    except (ProtocolError, TrustError, DamagedSealError) as error:
        manifest = await asyncio.to_thread(manifest_of, path, opener)
        if manifest is None:
            raise
        known = known_as(workspace, manifest.source_node)
        return Inspected(path, size, manifest, False, known, problem=str(error), problem_code=error.code)
    return Inspected(path, size, bundle.manifest, True, known_as(workspace, bundle.signer))


def telling_bytes(progress: Progress, stage: str, total: int, what: str, before: int = 0) -> Callable[[int], None]:
    """For a thread that counts the bytes it read: tells them as progress, after ``before`` of ``total``."""
    loop = asyncio.get_running_loop()

    def told(done: int) -> None:
        loop.call_soon_threadsafe(progress, Step(stage, before + done, total, what, BYTES))

    return told


async def verified(
    workspace: Workspace, path: Path, *, trust_source: bool, progress: Progress = silent
) -> VerifiedBundle:
    """A bundle that holds and whose maker this laptop knows (or that the user vouches for).

    A sealed one was unlocked before, or lies in the sealed archive. Raises ``protocol.errors.BundleError`` or
    ``SealingError`` for a damaged one, whatever the user says, and :class:`UntrustedSource`.
    """
    opener = workspace.bundle_files.open
    await asyncio.to_thread(refuse_platform_file, path, opener)
    told = telling_bytes(progress, "verifying", await asyncio.to_thread(size_of, path, opener), path.name)
    bundle = await verify_bundle(path, verify_signature, told=told, opener=opener)
    known = known_as(workspace, bundle.signer)
    if known in {"unknown", "revoked"} and not trust_source:
        what = "which was revoked" if known == "revoked" else "which this laptop's shop does not know"
        raise UntrustedSource(f"{path.name} was made by {bundle.manifest.source_device} ({bundle.signer}), {what}.")
    return bundle
