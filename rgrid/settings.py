"""Every setting, read from `RGRID_*` and `config.toml` in the grid's home, and validated once.

A setting's meaning is its description here; `rgrid doctor` prints them. What a *running* grid wrote down about itself
(ports, addresses) is not a setting: that is `rgrid.home`.
"""

import ipaddress
import os
import re
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from rgrid.domain.resources import (
    GIB,
    MIB,
    QuantityError,
    format_cpus,
    parse_cpus,
    parse_duration,
    parse_memory,
    parse_size,
    write_duration,
    write_size,
)
from rgrid.errors import Code, RGridError


def _memory(value: Any) -> Any:
    return parse_memory(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str | int | float) else value


def _cpus(value: Any) -> Any:
    return parse_cpus(value) if isinstance(value, str) else value


Memory = Annotated[int, BeforeValidator(_memory)]
Size = Annotated[int, BeforeValidator(_size)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
CpuMillis = Annotated[int, BeforeValidator(_cpus)]

DEFAULT_HOME = Path("~/.rgrid")
CONFIG_FILE = "config.toml"


class Settings(BaseSettings):
    """What an operator or a user can choose. Every field is `RGRID_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="RGRID_", extra="ignore", frozen=True, hide_input_in_errors=True)

    home: Path = Field(DEFAULT_HOME, description="Folder of one grid: its database, logs, ports and keys.")
    database_url: SecretStr | None = Field(
        None,
        description="Postgres of the grid, postgresql://user:password@host/name; the embedded one when not set.",
    )
    api_url: str | None = Field(None, description="Gateway that commands talk to; the local grid's when not set.")
    api_key: SecretStr | None = Field(None, description="API key that commands use; the local grid's when not set.")
    ray_address: str | None = Field(
        None,
        description="Ray cluster to use, host:port, with RAY_AUTH_TOKEN_PATH where it has a token; "
        "`rgrid up` starts one when not set.",
    )
    store_url: str = Field(
        "postgres:", description="Where blobs are kept: `postgres:` keeps them in the database, in chunks."
    )
    images: str = Field(
        "",
        description="Images jobs may run in beside the runtimes' own: patterns with *, separated by commas.",
    )
    indexes: str = Field(
        "",
        description="Package indexes scripts may ask for beside the node's own: patterns with *, separated by commas.",
    )
    ca_bundle: Path | None = Field(
        None, description="Certificates that builders of environments trust; a node's SSL_CERT_FILE when not set."
    )
    uv_config: Path | None = Field(
        None, description="uv.toml with the indexes and credentials that builders of environments use."
    )
    builder_images: str = Field(
        "rgrid-builder/{image}",
        description="Image with a compiler, or npm, where the image of a job has none; {image} stands for the latter.",
    )
    build_memory: Memory = Field(4 * GIB, description="Memory that installing what a script needs may take.")
    build_disk: Memory = Field(10 * GIB, description="Disk space that installing what a script needs may take.")
    host: str = Field("127.0.0.1", description="Address the gateway listens on; loopback unless told otherwise.")
    port: int = Field(0, ge=0, le=65535, description="Port the gateway listens on; 0 finds a free one.")
    node_name: str | None = Field(None, description="Name of this machine in the grid; its host name when not set.")
    docker_host: str | None = Field(
        None,
        description="Docker engine of this node, unix:///path or tcp://host:port; DOCKER_HOST when not set.",
    )
    docker_runtime: str | None = Field(
        None, description="OCI runtime for jobs, for example runsc; the engine's default when not set."
    )
    max_cpus: CpuMillis = Field(64_000, description="Most CPUs one job may ask for.")
    max_memory: Memory = Field(256 * GIB, description="Most memory one job may ask for.")
    max_timeout: Duration = Field(timedelta(days=7), description="Longest time limit one job may ask for.")
    max_input_bytes: Size = Field(1 * GIB, description="Largest single input file.")
    max_inputs: int = Field(10_000, ge=1, description="Most input files of one job.")
    max_body_bytes: Size = Field(16 * MIB, description="Largest request body that is not an upload.")
    max_disk: Size = Field(64 * GIB, description="Most disk space one job's workspace may ask for.")
    keep_jobs: Duration = Field(
        timedelta(days=30), description="How long ended jobs are kept, with their logs and outputs."
    )
    cache_high: Size = Field(
        20 * GIB, description="Disk space of a node's environments and caches above which the least used of them go."
    )
    cache_low: Size = Field(15 * GIB, description="Disk space of them at which it is enough.")
    min_free: Size = Field(1 * GIB, description="Free disk space below which a node takes no work, and says so.")
    node_lost_after: Duration = Field(
        timedelta(seconds=30), description="Silence after which a node is lost and its jobs start elsewhere."
    )
    rejoin_grace: Duration = Field(
        timedelta(seconds=90),
        description="Time silent nodes have to report after the scheduler was restarted.",
    )
    poll_interval: Duration = Field(
        timedelta(seconds=5), description="How often the scheduler looks for work it was not notified of."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least important message that is logged: DEBUG, INFO, WARNING, ERROR."
    )

    @field_validator("api_key")
    @classmethod
    def _key_fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("a key is made of letters, digits and signs, without spaces or line ends")
        return key

    @field_validator("store_url")
    @classmethod
    def _store_is_known(cls, url: str) -> str:
        if url != "postgres:":
            raise ValueError("blobs are kept in the database; write `postgres:`")
        return url

    @field_validator("host")
    @classmethod
    def _host_is_an_address(cls, host: str) -> str:
        try:
            ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        except ValueError:
            raise ValueError(f"{host!r} is not an address; write for example 127.0.0.1 or 0.0.0.0") from None
        return host

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # a .env beside a user's script is not ours
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments win over the environment, and that over `config.toml` in the home they name."""
        named = init_settings().get("home") or env_settings().get("home") or DEFAULT_HOME
        toml = TomlConfigSettingsSource(settings_cls, Path(named).expanduser() / CONFIG_FILE)
        return init_settings, env_settings, toml

    def allows_image(self, image: str) -> bool:
        """Say whether the operator lets jobs run in an image that no runtime has."""
        return _matches(image, self.images)

    def allows_index(self, url: str) -> bool:
        """Say whether the operator lets scripts ask for a package index."""
        return _matches(url, self.indexes)

    def model_post_init(self, _context: Any, /) -> None:
        """Make the home absolute once, so that no child process reads it against another folder."""
        object.__setattr__(self, "home", self.home.expanduser().absolute())


def _matches(text: str, patterns: str) -> bool:
    return any(fnmatchcase(text, pattern.strip()) for pattern in patterns.split(",") if pattern.strip())


def load_settings(**overrides: Any) -> Settings:
    """Read and validate the settings; raise `setting-invalid` naming the variable when one cannot be used."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "RGRID_" + "_".join(str(part) for part in first["loc"]).upper()
        reason = first["msg"].removeprefix("Value error, ")
        raise RGridError(Code.SETTING_INVALID, f"{name}: {reason}", setting=name) from error
    except (QuantityError, OSError, ValueError) as error:  # a config.toml that is no TOML among them
        path = home_folder() / CONFIG_FILE
        raise RGridError(
            Code.SETTING_INVALID, f"{path}: {error}", hint=f"Correct the file, or remove it: `rm {path}`."
        ) from error


def home_folder() -> Path:
    """Return the home that is meant, without reading anything in it."""
    return Path(os.environ.get("RGRID_HOME") or DEFAULT_HOME).expanduser().absolute()


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return this process's settings, read once."""
    return load_settings()


def written(name: str, value: Any) -> str | None:
    """Return a setting's value as it can be typed back; a secret is masked."""
    kinds = Settings.model_fields[name].metadata
    if value is None:
        return None
    if isinstance(value, SecretStr):
        return "********"
    if isinstance(value, timedelta):
        return write_duration(value)
    if any(isinstance(kind, BeforeValidator) and kind.func in {_memory, _size} for kind in kinds):
        return write_size(value)
    if any(isinstance(kind, BeforeValidator) and kind.func is _cpus for kind in kinds):
        return format_cpus(value)
    return str(value)
