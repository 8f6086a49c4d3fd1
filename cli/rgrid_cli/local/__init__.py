"""The grid that `rgrid up` starts on this machine: Postgres, a Ray head, the gateway, and who watches over them."""
