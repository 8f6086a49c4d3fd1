"""The actors: one scheduler, one executor per node. The only part of RGrid that knows Ray and Docker."""
