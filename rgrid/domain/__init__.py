"""What a job is and what may happen to it. Standard library only: no clock, no randomness, no outside thing."""
