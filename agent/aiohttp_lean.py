"""aiohttp without the system's certificate authorities: import it from here, before anything else imports it.

When it is imported, aiohttp reads all of them for connections that name no TLS context: 50 ms of processor and 2.4 MB.
Ours name one (peers the shop's, webhooks the system's), so that it gets a context that trusts nobody.
"""

from __future__ import annotations

import ssl

__all__ = ["aiohttp"]


def _nobody(*_: object, **__: object) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


_everybody = ssl.create_default_context
ssl.create_default_context = _nobody
try:
    import aiohttp
finally:
    ssl.create_default_context = _everybody
