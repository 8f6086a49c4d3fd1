"""The command line. It knows the gateway's URL and an API key; only `up`, `down` and `db` touch this machine."""
