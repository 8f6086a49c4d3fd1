"""Environments: what scripts need from a package index, resolved once, built once per node, shared read-only."""
