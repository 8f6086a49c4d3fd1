"""New job ids: short, lowercase, and in the order of their time, so that one index serves lists and pages."""

import secrets
import time
from datetime import datetime

from rgrid.domain.ids import JobId

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing that looks like something else
#: The characters an id can have.
ALPHABET = frozenset(_ALPHABET)
_TIME, _RANDOM = 9, 7


def new_job_id() -> JobId:
    """Return 16 characters: 45 bits of milliseconds and 35 of chance."""
    return JobId(_encode(time.time_ns() // 1_000_000, _TIME) + _encode(secrets.randbits(5 * _RANDOM), _RANDOM))


def floor_of(at: datetime) -> str:
    """Return what every id made from `at` on is not less than, and every earlier one is."""
    return _encode(int(at.timestamp() * 1000), _TIME)


def _encode(number: int, length: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))
