"""aiohttp without the system's certificate authorities: import it from here, before anything else imports it.

When it is imported, aiohttp reads all of them, twice, for connections that name no TLS context: 50 ms of processor and
4 MB. Ours name one (peers the shop's, webhooks the system's); what would not trusts nobody.
"""

from __future__ import annotations

import ssl
import threading

__all__ = ["aiohttp"]


_load, _set = ssl.SSLContext.load_default_certs, ssl.SSLContext.set_default_verify_paths
_here = threading.get_ident()


def _load_elsewhere(context: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
    """Loads the authorities for others than the thread that imports: aiohttp may be loaded beside other work."""
    if threading.get_ident() != _here:
        _load(context, purpose)


def _set_elsewhere(context: ssl.SSLContext) -> None:
    """The same for where they lie."""
    if threading.get_ident() != _here:
        _set(context)


ssl.SSLContext.load_default_certs = _load_elsewhere  # type: ignore[assignment, method-assign]
ssl.SSLContext.set_default_verify_paths = _set_elsewhere  # type: ignore[assignment, method-assign]
try:
    import aiohttp
finally:
    ssl.SSLContext.load_default_certs, ssl.SSLContext.set_default_verify_paths = _load, _set  # type: ignore[method-assign]
