"""The routes of `/v1`, a file per noun. They translate; what is true is decided by the store."""
