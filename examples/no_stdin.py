"""Read from a stdin that is not there: a job has none, and reading gives the end at once. `rgrid run examples/no_stdin.py`."""

import sys

lines = sys.stdin.readlines()
print(f"{len(lines)} lines on stdin")
