"""Numbers as the platform writes them: JavaScript's shortest text, which its Decimal type shares."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_SHORT_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}", re.ASCII)
_PLAIN = re.compile(r"-?(?!0\.000000)(?:0|[1-9][0-9]{0,20})(?:\.[0-9]+)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?", re.ASCII)
_LOWEST_PLAIN, _HIGHEST_PLAIN = -7, 21
NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def is_number(text: str) -> bool:
    """Whether ``text`` is a finite decimal number with an exponent of at most six digits."""
    return _NUMBER.fullmatch(text) is not None


def decimal_text(text: str) -> str:
    """A finite number without trailing zeros, as JavaScript and decimal.js print it: ``10.5``, ``1e-7``, ``1e+21``.

    Raises ``ValueError`` for text that is no finite number.
    """
    if _PLAIN.fullmatch(text):
        short = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if short == "-0" else short
    if not is_number(text):
        raise ValueError(f"{text[:60]!r} is no number")
    sign, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    whole = "".join(map(str, digits)).lstrip("0")
    kept = whole.rstrip("0")
    if not kept:
        return "0"
    return ("-" if sign else "") + _laid_out(kept, exponent + len(whole) - 1)


def _laid_out(digits: str, exponent: int) -> str:
    """``digits`` with the point after the first one, times ten to the ``exponent``."""
    if not _LOWEST_PLAIN < exponent < _HIGHEST_PLAIN:
        point = "." if len(digits) > 1 else ""
        return f"{digits[0]}{point}{digits[1:]}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    if len(digits) <= exponent + 1:
        return digits + "0" * (exponent + 1 - len(digits))
    return f"{digits[: exponent + 1]}.{digits[exponent + 1 :]}"


def script_number(text: str) -> tuple[str, bool]:
    """A finite number as JavaScript prints it after having read it, and whether that is the same number.

    Where it is not (more digits than a double holds), the number itself is given, in the same layout.
    """
    if _SHORT_INTEGER.fullmatch(text):
        return text, True
    exact = decimal_text(text)
    value = float(text)
    if not math.isfinite(value):
        return exact, False
    # The shortest text of a double need not be its exact value; what counts is what was written.
    return exact, decimal_text(repr(value)) == exact
