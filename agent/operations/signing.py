"""What becomes of a pushed bundle once it is dealt with: a signed receipt, its place in the history and the archive."""

from __future__ import annotations

from collections.abc import Awaitable

from agent.archive.errors import ArchiveError
from agent.archive.history import History
from agent.archive.incoming import Incoming
from agent.archive.records import DONE, REFUSED
from agent.engine.bundle_file import VerifiedBundle
from agent.log import get_logger
from agent.operations.approving import Approvals
from agent.operations.backups import record_of_file
from agent.operations.placing import keep_places
from agent.operations.workspace import Workspace, utc_now
from agent.peers.handler import IncomingOffer
from protocol.manifest import Kind, Manifest
from protocol.messages import Outcome, Receipt, SignedReceipt
from protocol.names import bundle_name

log = get_logger(__name__)


class Signing:
    """The end of pushes to this laptop, and of the ``approvals`` that some of them waited for.

    A history or an archive that cannot be written to at the moment keeps no sender from its receipt: that is logged.
    """

    def __init__(self, workspace: Workspace, history: History, approvals: Approvals) -> None:
        self._workspace = workspace
        self._history = history
        self._approvals = approvals

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

    async def applied(
        self,
        offer: IncomingOffer,
        part: Incoming,
        bundle: VerifiedBundle,
        receipt: SignedReceipt,
        counts: dict[str, int],
    ) -> None:
        """The rows are in. The receipt is noted before anything else: its sender may have to ask for it again."""
        await _noted(offer, self.end(offer, receipt, DONE, counts, None))
        await _noted(offer, self._keep(part, bundle))
        await _noted(offer, self._approvals.ended(offer, "applied"))

    async def refused(
        self, offer: IncomingOffer, part: Incoming, bundle: VerifiedBundle, error: Exception
    ) -> SignedReceipt:
        """Nothing of it is in; the bundle is kept all the same. Returns the receipt that says why."""
        receipt = self.receipt(bundle.manifest, "refused", {}, {}, str(error))
        await _noted(offer, self._keep(part, bundle))
        await _noted(offer, self.end(offer, receipt, REFUSED, {}, error))
        await _noted(offer, self._approvals.ended(offer, f"refused: {error}"))
        return receipt

    async def _keep(self, part: Incoming, bundle: VerifiedBundle) -> None:
        """Move the bundle from the spool into the archive."""
        manifest = bundle.manifest
        path = await part.promote(self._workspace.archive, manifest.kind.value, bundle_name(manifest))
        await self._history.add_backup(
            await record_of_file(self._workspace, manifest, path, raw_size=bundle.seal.raw_bytes, came="received")
        )
        if manifest.kind is Kind.BUSINESS:
            await keep_places(self._workspace.home, manifest.bundle_id, bundle.places)


async def _noted(offer: IncomingOffer, noting: Awaitable[None]) -> None:
    try:
        await noting
    except (ArchiveError, OSError) as error:
        log.warning("a push has ended, and not all of it is noted", transfer=offer.transfer_id, reason=str(error))
