"""RGrid: run anybody's script on a grid of machines.

This package is the ground: the life of a job, the scheduling core, the store and the words everyone shares.
It refuses to know the actors, the gateway and the command line, which stand on it.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
