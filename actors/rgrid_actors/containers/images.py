"""Images of one engine: found, pulled with progress, and a clear reason when they cannot be had."""

import time
from collections.abc import Callable

import docker
import requests
import urllib3
from docker.errors import APIError, ImageNotFound, NotFound

from rgrid_actors.containers.port import ImageUnavailableError

#: A pull tells how it comes along this often.
PROGRESS_SECONDS = 1.0
#: A pull that is silent for so long is asked for again: what came of it already is kept by the engine.
SILENCE_SECONDS = 90
_BAD_REQUEST = 400


def find(api: docker.APIClient, image: str) -> str | None:
    """Return the image's digest, or None where it is absent."""
    try:
        found: dict[str, str] = api.inspect_image(image)  # type: ignore[no-untyped-call]
        return found["Id"]
    except (ImageNotFound, NotFound):
        return None
    except APIError as error:
        if error.status_code != _BAD_REQUEST:  # the engine's fault, not the name's
            raise
        raise ImageUnavailableError(f"image {image!r}: {error.explanation or error}") from error


def pull(client: docker.APIClient, image: str, progress: Callable[[str], None], *, deadline: float) -> str:
    """Pull an image and return its digest; `client` gives a pull up that is silent for long."""
    progress(f"pulling image {image}")
    while True:
        try:
            _pull(client, image, progress, deadline)
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
            _check(image, deadline)
            continue
        except requests.ConnectionError as error:
            if "Read timed out" not in str(error):
                raise
            _check(image, deadline)
            continue
        except APIError as error:
            raise ImageUnavailableError(_why(image, str(error.explanation or error))) from error
        found = find(client, image)
        if found is None:
            raise ImageUnavailableError(f"image {image!r} was pulled but is not there")
        return found


def _pull(client: docker.APIClient, image: str, progress: Callable[[str], None], deadline: float) -> None:
    # Without a tag the engine would pull every tag there is.
    name, _, tag = image.rpartition(":") if ":" in image.rsplit("/", 1)[-1] else (image, "", "latest")
    if "@" in image:
        name, tag = image, ""
    told = time.monotonic()
    for line in client.pull(name, tag=tag or None, stream=True, decode=True):
        if "error" in line:
            raise ImageUnavailableError(_why(image, str(line["error"])))
        _check(image, deadline)
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            progress(f"pulling image {image}: {line.get('status', '')} {line.get('progress', '')}".rstrip())


def _check(image: str, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise ImageUnavailableError(f"image {image!r} could not be pulled within its time limit")


def _why(image: str, words: str) -> str:
    lower = words.lower()
    known = (
        (("no space left",), "there is no space for it on the node's disk"),
        (("manifest unknown", "not found: manifest", "manifest for"), "its registry has no such tag"),
        (("unauthorized", "authentication required"), "its registry wants credentials"),
        (("pull access denied", "repository does not exist"), "its registry has no such image, or wants credentials"),
        (("invalid reference", "invalid tag"), "that is not the name of an image"),
        (
            ("no such host", "timeout", "connection refused", "network is unreachable", "i/o", "server misbehaving"),
            "its registry cannot be reached from the node",
        ),
    )
    for signs, meaning in known:
        if any(sign in lower for sign in signs):
            return f"image {image!r}: {meaning}"
    return f"image {image!r} could not be pulled: {' '.join(words.split())}"
