"""Containers of this grid on one Docker engine. `spec` says what a job's container is; labels say whose it is."""
