"""API keys in Postgres. A key is 256 random bits; what is stored is its sha256, found by one indexed look."""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from rgrid.domain.ids import Owner
from rgrid.errors import Code, RGridError
from rgrid.store.engine import translate_errors
from rgrid.store.ports import Principal
from rgrid.store.tables import api_keys
from rgrid.wire import KeyView

PREFIX = "rg_"


def new_key() -> str:
    """Return the text of a new key."""
    return PREFIX + secrets.token_urlsafe(32)


class PostgresKeys:
    """`KeyStore` on Postgres."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def create(self, owner: str, *, role: Literal["user", "admin"] = "user", name: str = "") -> KeyView:
        """Make a key; only the answer has its text."""
        key = new_key()
        row = self._insert(key, owner, role, name)
        assert row is not None
        return _view(row).model_copy(update={"key": key})

    def ensure(self, key: str, owner: str, role: Literal["user", "admin"], name: str = "") -> bool:
        """See that a key whose text is known here works, for the local grid's own; False when it was revoked."""
        return self._insert(key, owner, role, name) is not None or self.find(key) is not None

    def all(self) -> list[KeyView]:
        """Return every key, newest first."""
        with translate_errors(), self._engine.connect() as tx:
            rows = tx.execute(select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)).mappings()
            return [_view(row) for row in rows]

    def revoke(self, key_id: str) -> KeyView:
        """Make a key useless; revoking it again changes nothing."""
        change = update(api_keys).where(api_keys.c.id == key_id)
        change = change.values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now())).returning(api_keys)
        with translate_errors(), self._engine.begin() as tx:
            row = tx.execute(change).mappings().first()
        if row is None:
            raise RGridError(Code.NOT_FOUND, f"no key has id {key_id!r}", hint="See all keys with `rgrid keys list`.")
        return _view(row)

    def find(self, key: str) -> Principal | None:
        """Return whose key this is."""
        mine = select(api_keys).where(api_keys.c.hash == _hash(key), api_keys.c.revoked_at.is_(None))
        with translate_errors(), self._engine.connect() as tx:
            row = tx.execute(mine).mappings().first()
        return None if row is None else Principal(Owner(row["owner"]), row["role"] == "admin", row["id"])

    def _insert(self, key: str, owner: str, role: str, name: str) -> Mapping[Any, Any] | None:
        row = {"id": secrets.token_hex(4), "owner": owner, "role": role, "name": name, "hash": _hash(key)}
        made = insert(api_keys).values(**row, created_at=func.now()).on_conflict_do_nothing(index_elements=["hash"])
        with translate_errors(), self._engine.begin() as tx:
            return tx.execute(made.returning(api_keys)).mappings().first()


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _view(row: Mapping[Any, Any]) -> KeyView:
    return KeyView.model_validate({k: v for k, v in row.items() if k != "hash"})
