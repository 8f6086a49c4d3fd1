"""Fail as scripts do: with a traceback on stderr and exit code 1. `rgrid run examples/fails.py`."""

import sys

print("so far so good")
prices = {"apple": 3}
print("then not", file=sys.stderr)
print(prices["pear"])
