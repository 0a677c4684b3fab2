"""The images on this host, as the container engine knows them."""
from typing import Any

from keel import engine, run
from keel.stop import NO, Stop


def find(handle: str) -> dict[str, Any] | None:
    """An image by `name@sha256:…`, looked for as a repository digest and then as the id of an image built here; None when absent."""
    names = [handle] + ([handle.partition("@")[2]] if "@" in handle else [])
    with engine.reachable():
        for name in names:
            try:
                return dict(engine.client().inspect_image(name))
            except engine.errors().ImageNotFound:
                continue
            except engine.errors().APIError as e:
                if e.status_code != 400:  # 400: not a reference at all
                    raise
    return None


def ids() -> set[str]:
    """The ids of all images on this host, whole: the engine itself also takes the first digits of one for its name."""
    with engine.reachable():
        return set(engine.client().images(quiet=True, all=True))


def in_use() -> set[str]:
    """The ids of the images of all containers, running or not."""
    with engine.reachable():
        return {c["ImageID"] for c in engine.client().containers(all=True)}


def remove(image_id: str) -> None:
    """Remove an image. Raises Stop 1 when a container uses it."""
    if run.dry:
        run.dry(f"remove image {image_id}")
        return
    with engine.reachable():
        try:
            engine.client().remove_image(image_id, force=True)
        except engine.errors().APIError as e:
            raise Stop(f"{image_id}: {e.explanation}", NO) from None
