"""What a script needs from a package index: found beside it and in it, never by running it.

In this order: the script's own PEP 723 block, `--requirements`, a lock beside it, `pyproject.toml` with
`requirements.txt`, and last its imports. What is found is said in one line; what cannot be used is said too. Nothing is
resolved here: that is the grid's, which keeps the lock it made with the job.
"""
