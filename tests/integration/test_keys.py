"""API keys on a real Postgres."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from rgrid.errors import Code, RGridError
from rgrid.store.keys import PostgresKeys


@pytest.fixture
def keys(engine: Engine) -> PostgresKeys:
    return PostgresKeys(engine)


def test_a_key_is_256_random_bits(keys: PostgresKeys) -> None:
    made = [keys.create("me").key or "" for _ in range(20)]
    assert len(set(made)) == 20
    assert {len(key) for key in made} == {3 + 43}
    assert all(key.startswith("rg_") and key.isascii() for key in made)


def test_keys_are_listed_newest_first(keys: PostgresKeys) -> None:
    made = [keys.create("me", role="admin" if i else "user", name=f"k{i}").id for i in range(3)]
    assert [key.id for key in keys.all()] == made[::-1]
    assert [key.role for key in keys.all()] == ["admin", "admin", "user"]


def test_a_revocation_keeps_its_first_time(keys: PostgresKeys) -> None:
    key = keys.create("me")
    first = keys.revoke(key.id)
    assert first.revoked_at is not None
    assert keys.revoke(key.id).revoked_at == first.revoked_at
    with pytest.raises(RGridError) as caught:
        keys.revoke("nobody")
    assert caught.value.code is Code.NOT_FOUND


def test_ensuring_at_once_makes_one_and_never_revives_it(keys: PostgresKeys) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: keys.ensure("rg_local", "root", "admin"), range(16)))
    [key] = keys.all()
    keys.revoke(key.id)
    keys.ensure("rg_local", "root", "admin")
    assert keys.find("rg_local") is None, "who revoked it meant it"
