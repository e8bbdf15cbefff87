"""QR codes for the terminal."""

from __future__ import annotations

import io

_WHITE_ON_BLACK, _AS_BEFORE = "\x1b[97;40m", "\x1b[0m"


def drawn(text: str) -> str:
    """``text`` as a QR code of half blocks, dark on light whatever the terminal's own colours are (ANSI escapes)."""
    import segno  # only here: commands must start quickly

    out = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out=out, border=2, compact=True)
    return "\n".join(f"{_WHITE_ON_BLACK}{line}{_AS_BEFORE}" for line in out.getvalue().splitlines())
