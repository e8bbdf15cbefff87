"""Plain or gzip, told apart by the first two bytes; unpacked in small pieces, never more than allowed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from protocol.platform_json.errors import PlatformFileCutShort, PlatformFileDamaged, PlatformFileTooLarge
from protocol.platform_json.limits import DEFAULT_FILE_LIMITS, FileLimits

GZIP_MAGIC = b"\x1f\x8b"
_PIECE = 1 << 20


class Inflater:
    """``feed`` bytes of the file, get bytes of the text; ``close`` at the end. Several gzip members are one text."""

    def __init__(self, limits: FileLimits = DEFAULT_FILE_LIMITS) -> None:
        self._limits = limits
        self._head = b""
        self._started = False
        self._gzip: zlib._Decompress | None = None
        self._read = 0
        self.unpacked = 0

    @property
    def compressed(self) -> bool:
        """Whether the file is gzip, once it has been looked at."""
        return self._gzip is not None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises ``PlatformFileDamaged`` or ``PlatformFileTooLarge``. Read to its end before the next call."""
        self._read += len(data)
        if not self._started:
            self._head += data
            if len(self._head) < len(GZIP_MAGIC):
                return
            data, self._head, self._started = self._head, b"", True
            if data.startswith(GZIP_MAGIC):
                self._gzip = zlib.decompressobj(wbits=31)
        if self._gzip is None:
            yield self._counted(data)
        else:
            yield from self._unpack(data)

    def close(self) -> Iterator[bytes]:
        """What is left at the end. Raises ``PlatformFileCutShort`` where compressed data is not complete."""
        if not self._started and self._head:
            self._started = True
            yield self._head
        if self._gzip is not None and not self._gzip.eof:
            raise PlatformFileCutShort("The compressed file ends in the middle.")

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        assert self._gzip is not None
        while True:
            if self._gzip.eof:
                if not data:
                    return
                self._gzip = zlib.decompressobj(wbits=31)
            try:
                piece = self._gzip.decompress(data, _PIECE)
            except zlib.error as error:
                raise PlatformFileDamaged(f"The compressed file cannot be unpacked: {error}.") from None
            data = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail
            if piece:
                yield self._counted(piece)
            if not data and not self._gzip.eof and len(piece) < _PIECE:
                return

    def _counted(self, data: bytes) -> bytes:
        self.unpacked += len(data)
        bomb = self.unpacked > max(self._limits.unpacked_free, self._limits.ratio * self._read)
        if self.unpacked > self._limits.total or (self._gzip is not None and bomb):
            raise PlatformFileTooLarge(
                f"The file unpacks to more than {self.unpacked >> 20} MB, out of {self._read >> 10} kB: refused."
            )
        return data
