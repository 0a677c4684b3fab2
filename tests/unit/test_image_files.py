"""An archive of images is looked through without an engine: what would not load is found."""
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from keel import image_files

CONFIG, LAYER = b'{"os": "linux"}', b"layer" * 1000
ID = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
IMAGES = {f"events@{ID}": ID}


def blob(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def archive(**changes: bytes | None) -> Iterator[bytes]:
    """As `docker save` writes it; a change by name: other content, or None for nothing."""
    index: list[dict[str, Any]] = [{"Config": blob(CONFIG), "RepoTags": ["events:1"], "Layers": [blob(LAYER)]}]
    members = {"config": (blob(CONFIG), CONFIG), "layer": (blob(LAYER), LAYER), "index": ("manifest.json", json.dumps(index).encode())}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for key, (name, content) in members.items():
            content = changes.get(key, content)
            if content is not None:
                one = tarfile.TarInfo(name)
                one.size = len(content)
                tar.addfile(one, io.BytesIO(content))
    yield out.getvalue()
    yield b"padding"


def test_a_good_one_is_well() -> None:
    chunks = archive()
    assert image_files.check(chunks, IMAGES) == [] and next(chunks, None) is None


@pytest.mark.parametrize(("changes", "found"), [
    ({"layer": None}, f"{blob(LAYER)} is missing"), ({"layer": LAYER[:-1] + b"x"}, f"{blob(LAYER)} is damaged"),
    ({"config": b"{}"}, f"{blob(CONFIG)} is damaged"), ({"config": None}, f"{blob(CONFIG)} is missing"),
    ({"index": None}, f"the image events@{ID} is not in it"), ({"index": b"[]"}, f"the image events@{ID} is not in it")])
def test_what_would_not_load_is_found(changes: dict[str, bytes | None], found: str) -> None:
    assert image_files.check(archive(**changes), IMAGES) == [found]


@pytest.mark.parametrize("chunks", [[b""], [b"no archive" * 200], [b"x"]])
def test_what_is_no_archive_is_found_and_read_to_its_end(chunks: list[bytes]) -> None:
    rest = iter([*chunks, b"more"])
    said = image_files.check(rest, IMAGES)
    assert said[0].startswith("is no archive of images: ") and next(rest, None) is None


def test_an_index_that_is_none_is_found() -> None:
    assert image_files.check(archive(index=b"{"), IMAGES)[0].startswith("is no archive of images: ")
