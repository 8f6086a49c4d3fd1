"""Read from a stdin that is not there: reading gives the end at once. `rgrid run examples/no_stdin.py`."""

import sys

lines = sys.stdin.readlines()
print(f"{len(lines)} lines on stdin")
