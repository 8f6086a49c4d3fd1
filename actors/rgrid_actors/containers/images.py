"""Images: pulled once however many jobs ask for them, with progress, and a clear reason when they cannot be had."""

import threading
import time
from collections.abc import Callable
from contextlib import closing

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from rgrid_actors.containers.port import ImageUnavailableError

#: A pull tells how it comes along this often.
PROGRESS_SECONDS = 1.0


class Images:
    """The images of one engine."""

    def __init__(self, api: docker.APIClient, puller: Callable[[], docker.APIClient]) -> None:
        """Keep a client for questions, and a way to one without a read timeout for pulls."""
        self._api, self._puller = api, puller
        self._lock = threading.Lock()
        self._pulls: dict[str, threading.Lock] = {}

    def ensure(self, image: str, progress: Callable[[str], None], *, deadline: float) -> str:
        """Return the image's digest, pulling it where it is absent."""
        found = self._digest(image)
        if found is not None:
            return found
        with self._lock:
            one_at_a_time = self._pulls.setdefault(image, threading.Lock())
        with one_at_a_time:
            found = self._digest(image)
            if found is None:
                self._pull(image, progress, deadline)
                found = self._digest(image)
        if found is None:
            raise ImageUnavailableError(f"image {image!r} was pulled but is not there")
        return found

    def _digest(self, image: str) -> str | None:
        try:
            found: dict[str, str] = self._api.inspect_image(image)  # type: ignore[no-untyped-call]
            return found["Id"]
        except (ImageNotFound, NotFound):
            return None
        except APIError as error:
            raise ImageUnavailableError(f"image {image!r}: {error.explanation or error}") from error

    def _pull(self, image: str, progress: Callable[[str], None], deadline: float) -> None:
        progress(f"pulling image {image}")
        # Without a tag the engine would pull every tag there is.
        name, _, tag = image.rpartition(":") if ":" in image.rsplit("/", 1)[-1] else (image, "", "latest")
        if "@" in image:
            name, tag = image, ""
        told = time.monotonic()
        try:
            with closing(self._puller()) as client:
                for line in client.pull(name, tag=tag or None, stream=True, decode=True):
                    if "error" in line:
                        raise ImageUnavailableError(_why(image, str(line["error"])))
                    if time.monotonic() > deadline:
                        raise ImageUnavailableError(f"image {image!r} could not be pulled within its time limit")
                    if time.monotonic() - told >= PROGRESS_SECONDS:
                        told = time.monotonic()
                        progress(f"pulling image {image}: {line.get('status', '')} {line.get('progress', '')}".rstrip())
        except APIError as error:
            raise ImageUnavailableError(_why(image, str(error.explanation or error))) from error
        except DockerException as error:
            raise ImageUnavailableError(_why(image, str(error))) from error


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
