"""What becomes of a pushed bundle once it is dealt with: a signed receipt, its place in the history and the archive."""

from __future__ import annotations

from agent.archive.history import History
from agent.archive.incoming import Incoming
from agent.engine.bundle_file import VerifiedBundle
from agent.operations.backups import record_of_file
from agent.operations.placing import keep_places
from agent.operations.workspace import Workspace, utc_now
from agent.peers.handler import IncomingOffer
from protocol.manifest import Kind, Manifest
from protocol.messages import Outcome, Receipt, SignedReceipt
from protocol.names import bundle_name


class Signing:
    """The end of pushes to this laptop, in the order in which it is to be noted: the receipt before anything else."""

    def __init__(self, workspace: Workspace, history: History) -> None:
        self._workspace = workspace
        self._history = history

    def receipt(
        self,
        manifest: Manifest,
        outcome: Outcome,
        tables: dict[str, dict[str, int]],
        counts: dict[str, int],
        message: str,
    ) -> SignedReceipt:
        """What this laptop signs about the bundle: the outcome, rows by table and in all, and a sentence."""
        identity = self._workspace.store.identity()
        receipt = Receipt(
            bundle_id=manifest.bundle_id,
            receiver_node=identity.node_id,
            receiver_name=identity.name,
            outcome=outcome,
            tables=tables,
            totals=counts,
            message=message[:1000],
            at=utc_now(),
        )
        return receipt.sign(identity.certificate, identity.sign)

    async def end(
        self,
        offer: IncomingOffer,
        receipt: SignedReceipt,
        state: str,
        counts: dict[str, int],
        error: Exception | None,
    ) -> None:
        """Note in the history how the transfer ended, with the receipt that its sender can ask for again."""
        await self._history.end_transfer(
            offer.transfer_id,
            state,
            bytes_done=offer.size,
            receipt=receipt.encode(),
            totals=counts,
            error_code=str(getattr(error, "code", "unexpected")) if error else None,
            error=str(error) if error else None,
        )

    async def keep(self, part: Incoming, bundle: VerifiedBundle) -> None:
        """Move the bundle from the spool into the archive."""
        manifest = bundle.manifest
        path = await part.promote(self._workspace.archive, manifest.kind.value, bundle_name(manifest))
        await self._history.add_backup(
            await record_of_file(self._workspace, manifest, path, raw_size=bundle.seal.raw_bytes, came="received")
        )
        if manifest.kind is Kind.BUSINESS:
            await keep_places(self._workspace.home, manifest.bundle_id, bundle.places)
