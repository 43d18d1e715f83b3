"""Pages: a query piece by piece, without holding anything between the pieces.

Owns: the public class ``Page`` and its tokens.

Invariants:

* A token names a place in an order, not a snapshot: the next page goes on behind that document whatever was
  written meanwhile, also if it is gone, and whatever index is used now.
* A token is good for the query that it came from only, and anything else that is passed for one is a
  ValueError.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from memdb import values
from memdb.documents.cursor import Query
from memdb.documents.reading import Found
from memdb.errors import Error

__all__ = ["Page", "place_of", "token_of"]

T = TypeVar("T")

_VERSION: Final = 1
_FINGERPRINT: Final = 8  # bytes


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of documents, from ``people.page()``."""

    items: list[T]
    """The documents, in order."""
    next: str | None
    """What ``after=`` takes for the next page; None if this is the last one."""
    total: int | None = None
    """How many documents the filter finds, if ``total=True`` was asked for."""


def _fingerprint(query: Query) -> bytes:
    """Tells queries apart: collection, filter and order."""
    assert query.order is not None
    asked = [query.name, query.filter.source, query.order.fields, query.order.id_descending]
    return hashlib.blake2b(values.pack(asked), digest_size=_FINGERPRINT).digest()


def token_of(query: Query, last: Found) -> str:
    """What names the place of a document in the order of a query."""
    assert query.order is not None
    facts = [_VERSION, _fingerprint(query), query.order.codes(last[1], last[0])]
    return base64.urlsafe_b64encode(values.pack(facts)).rstrip(b"=").decode("ascii")


def place_of(query: Query, token: object) -> list[bytes]:
    """The place that :func:`token_of` has named. Raises ValueError."""
    if type(token) is not str:
        raise TypeError(f"after must be the .next of a page, a str, not {type(token).__name__}")
    facts = _decoded(token)
    assert query.order is not None
    codes = len(query.order.fields) + 1
    if type(facts) is list and len(facts) == 3 and facts[0] == _VERSION and type(facts[2]) is list:
        if facts[1] != _fingerprint(query):
            raise ValueError(
                "after is the .next of a page of another query: the collection, the filter and the sort must "
                "be those of that page"
            )
        if len(facts[2]) == codes and all(type(code) is bytes and code for code in facts[2]):
            return list(facts[2])
    raise ValueError("after is no token: pass the .next of the page before, as it is")


def _decoded(token: str) -> Any:
    try:
        return values.unpack(base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4)))
    except (Error, UnicodeEncodeError, binascii.Error):
        return None
