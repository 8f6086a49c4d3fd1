"""Names of things, each its own type, so that a job's id is never passed where a node's name belongs."""

from typing import NewType

#: One submission. Sorts by the time it was made; the store makes it.
JobId = NewType("JobId", str)
#: Fencing token of one attempt: `<scheduler term>.<serial>`, never used twice in the life of a grid.
Lease = NewType("Lease", str)
#: A machine of the grid, as its operator calls it.
NodeName = NewType("NodeName", str)
#: Whoever submitted; every row belongs to one.
Owner = NewType("Owner", str)
#: One grid among others on a machine; the label on all its containers.
GridId = NewType("GridId", str)
#: A blob's name: the sha256 of its bytes, in hex.
Digest = NewType("Digest", str)
