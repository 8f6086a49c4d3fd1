"""New job ids: short, lowercase, and in the order of their time, so that one index serves lists and pages."""

import secrets
import time

from rgrid.domain.ids import JobId

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that looks like something else
#: The characters an id can have.
ALPHABET = frozenset(_ALPHABET)
_TIME, _RANDOM = 9, 7


def new_job_id() -> JobId:
    """Return 16 characters: 45 bits of milliseconds and 35 of chance."""
    return JobId(_encode(time.time_ns() // 1_000_000, _TIME) + _encode(secrets.randbits(5 * _RANDOM), _RANDOM))


def _encode(number: int, length: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
