"""What the operator of a node gives its builders: indexes and credentials, certificates, tools, and limits.

Taken from the settings and from the node's own environment, where package tools look for them as well. Never given to a
job's container.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rgrid.domain.resources import GIB
from rgrid_actors.environments import recipe as recipes

#: What package tools read, and builders therefore get, from the environment of the node.
_PASSED = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
)
#: Pip's names for what uv calls otherwise.
_OF_PIP = {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
_BUNDLE, _CONFIG, _NETRC, _NPMRC = "/rgrid/ca.pem", "uv.toml", "netrc", "npmrc"


@dataclass(frozen=True, slots=True)
class Site:
    """One node's way to package indexes."""

    uv: Path
    build_memory_bytes: int
    build_disk_bytes: int
    #: Pattern of the image that has a compiler or npm where the job's own has not; `{image}` stands for the latter.
    builder_images: str
    #: Disk space of environments and caches above which the least used go, and at which it is enough.
    cache_high_bytes: int = 20 * GIB
    cache_low_bytes: int = 15 * GIB
    #: Free disk space below which the node takes no work.
    min_free_bytes: int = 1 * GIB
    ca_bundle: Path | None = None
    uv_config: Path | None = None
    #: The node's environment.
    node: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def builder_image(self, image: str) -> str:
        """Return the name of the image with tools for jobs in `image`."""
        return self.builder_images.replace("{image}", image)

    def mounts(self) -> dict[Path, str]:
        """Return what a builder finds beside its workshop."""
        found = {self.uv: recipes.UV}
        if (bundle := self._bundle()) is not None:
            found[bundle] = _BUNDLE
        return found

    def environment(self, place: str) -> dict[str, str]:
        """Return what a builder is told; `place` is its workshop."""
        found = {theirs: self.node[ours] for ours, theirs in _OF_PIP.items() if ours in self.node}
        found |= {name: self.node[name] for name in _PASSED if name in self.node}
        found |= {name: value for name, value in self.node.items() if name.startswith("UV_INDEX_")}
        if self._bundle() is not None:
            found |= dict.fromkeys(("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"), _BUNDLE)
        # A script's own folder must not configure the tools behind the operator's back.
        found |= {"UV_CONFIG_FILE": f"{place}/{_CONFIG}"} if self.uv_config else {"UV_NO_CONFIG": "1"}
        if self._secret("NETRC", ".netrc") is not None:
            found["NETRC"] = f"{place}/{_NETRC}"
        if self._secret("NPM_CONFIG_USERCONFIG", ".npmrc") is not None:
            found["npm_config_userconfig"] = f"{place}/{_NPMRC}"
        return found

    def leave_secrets(self, workshop: Path) -> None:
        """Copy what only the operator may read to where only this builder can, and where it goes with the workshop."""
        wanted = {
            _CONFIG: self.uv_config,
            _NETRC: self._secret("NETRC", ".netrc"),
            _NPMRC: self._secret("NPM_CONFIG_USERCONFIG", ".npmrc"),
        }
        for name, source in wanted.items():
            if source is not None:
                (workshop / name).touch(mode=0o600)
                (workshop / name).write_bytes(source.read_bytes())

    def _bundle(self) -> Path | None:
        named = (self.ca_bundle, *(Path(self.node[name]) for name in _BUNDLES if self.node.get(name)))
        return next((path for path in named if path is not None and path.is_file()), None)

    def _secret(self, variable: str, name: str) -> Path | None:
        path = Path(self.node.get(variable) or Path(self.node.get("HOME", "/")) / name)
        return path if path.is_file() and os.access(path, os.R_OK) else None
