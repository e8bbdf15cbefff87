"""The writer: turns a manifest and encoded frames into the bytes of a bundle. Does no I/O."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from protocol.errors import OutOfOrder
from protocol.frames import EncodedFrame, check_data, frame_record, next_chain, start_chain
from protocol.ledger import Ledger
from protocol.limits import DEFAULT_LIMITS, Limits
from protocol.manifest import Manifest
from protocol.places import Packed, Places
from protocol.records import PREFIX_SIZE, Tag, header_record, record
from protocol.seal import Seal, Signer, check_lengths, unsigned_seal


class BundleWriter:
    """Makes one bundle: ``header`` once, ``frame`` for each frame in the manifest's order, ``seal`` once.

    Each call returns the bytes to append. It writes only what ``BundleReader`` accepts.
    """

    def __init__(self, manifest: Manifest, limits: Limits = DEFAULT_LIMITS) -> None:
        """Raises ``ManifestInvalid`` or ``TooLarge`` for a manifest that no reader would take."""
        self._limits = limits
        self._header = header_record()
        self._manifest = record(Tag.MANIFEST, manifest.encode(limits))
        self._manifest_digest = manifest.digest()
        self._ledger = Ledger(manifest)
        self._chain = start_chain(self._header, self._manifest)
        self._content = sha256()
        self._position = len(self._header) + len(self._manifest)
        self._places = Places()
        self._open = False
        self._sealed = False

    @property
    def content(self) -> str:
        """A digest over those of all frames so far, in hex, as ``protocol.delta.Base`` has it."""
        return self._content.hexdigest()

    @property
    def places(self) -> Packed | None:
        """Where the frames so far lie in the bundle (:mod:`protocol.places`)."""
        return self._places.packed()

    def header(self) -> bytes:
        """The first bytes: magic, version and manifest."""
        if self._open or self._sealed:
            raise OutOfOrder("A bundle has one header.")
        self._open = True
        return self._header + self._manifest

    def frame(self, frame: EncodedFrame) -> bytes:
        """The bytes of the next frame.

        Raises ``OutOfOrder`` for an entry that does not come now and ``WrongRowCount`` where an entry ends with other
        rows than the manifest says.
        """
        self._check_open()
        check_data(frame, self._limits)
        self._ledger.add(frame)
        self._content.update(frame.digest)
        self._chain = next_chain(self._chain, frame.digest)
        whole = frame_record(frame, self._chain)
        self._places.add(frame, self._position + PREFIX_SIZE, len(whole) - PREFIX_SIZE)
        self._position += len(whole)
        return whole

    def seal(self, signer: Signer, certificate: bytes) -> bytes:
        """The last bytes. ``certificate`` is the source's, in DER; ``signer`` signs with its key.

        Raises ``WrongRowCount`` unless all rows of the manifest were written.
        """
        self._check_open()
        self._ledger.finish()
        unsigned = unsigned_seal(self._ledger, self._chain, certificate)
        seal: Seal = replace(unsigned, signature=signer(unsigned.message(self._manifest_digest)))
        check_lengths(seal, self._limits)
        self._open, self._sealed = False, True
        return record(Tag.SEAL, seal.encode())

    def _check_open(self) -> None:
        if not self._open:
            raise OutOfOrder("A bundle starts with its header and ends with its seal.")
