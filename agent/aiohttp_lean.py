"""aiohttp without the system's certificate authorities: import it from here, before anything else imports it.

When it is imported, aiohttp reads all of them, twice, for connections that name no TLS context: 50 ms of processor and
4 MB. Ours name one (peers the shop's, webhooks the system's); what would not trusts nobody.
"""

from __future__ import annotations

import ssl

__all__ = ["aiohttp"]


def _nothing(*_: object) -> None:
    """In the place of what loads the authorities."""


_load, _set = ssl.SSLContext.load_default_certs, ssl.SSLContext.set_default_verify_paths
ssl.SSLContext.load_default_certs = ssl.SSLContext.set_default_verify_paths = _nothing  # type: ignore[assignment, method-assign]
try:
    import aiohttp
finally:
    ssl.SSLContext.load_default_certs, ssl.SSLContext.set_default_verify_paths = _load, _set  # type: ignore[method-assign]
