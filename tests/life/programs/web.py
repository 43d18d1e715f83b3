"""A web service as users write one: opened at import, WSGI (``app``) and ASGI (``asgi``).

POST /ID counts the request twice: once by a single call, once in a transaction that a repeated request does
not repeat.
"""

import os
from typing import Any

import memdb

db = memdb.open(os.environ["LIFE_DATA"], max_memory="64MiB", linger=0.5)


def effect(request: str) -> str:
    """What one request does."""
    db.increment(("single", request))

    def once(tx: memdb.Transaction) -> None:
        if ("done", request) not in tx:
            tx.increment("count")
            tx["done", request] = os.getpid()

    db.transact(once, retries=50)
    return str(os.getpid())


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """WSGI."""
    body = effect(environ["PATH_INFO"].lstrip("/"))
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body.encode()]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = effect(scope["path"].lstrip("/")).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
