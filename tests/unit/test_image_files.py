"""An archive of images is looked through without an engine: what would not load is found."""
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
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


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest(config: str) -> bytes:
    return json.dumps({"config": {"digest": config}, "layers": []}).encode()


def listed(*those: tuple[bytes, str]) -> bytes:
    """A list of manifests, each with its platform."""
    return json.dumps({"manifests": [{"digest": digest(m), "platform": {"os": os}} for m, os in those]}).encode()


FOREIGN = "sha256:" + "0" * 64  # the configuration of another platform's image, or of an attestation
MANIFEST, OTHER = manifest(ID), manifest(FOREIGN)
KNOWN = digest(MANIFEST)  # where containerd stores images
ATTESTED, PLATFORMS = listed((MANIFEST, "linux"), (OTHER, "unknown")), listed((MANIFEST, "linux"), (OTHER, "linux"))


def layout(top: str, *blobs: bytes) -> bytes:
    """As `docker save` writes it from version 25 on: beside the older index an OCI layout."""
    out = io.BytesIO()
    members = [(blob(b), b) for b in (CONFIG, LAYER, *blobs)]
    members += [("index.json", json.dumps({"manifests": [{"digest": top}]}).encode()),
                ("manifest.json", json.dumps([{"Config": blob(CONFIG), "RepoTags": None, "Layers": [blob(LAYER)]}]).encode())]
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            one = tarfile.TarInfo(name)
            one.size = len(content)
            tar.addfile(one, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(("text", "ident", "well"), [
    (layout(KNOWN, MANIFEST), ID, True), (layout(KNOWN, MANIFEST), KNOWN, True), (layout(KNOWN, MANIFEST), digest(ATTESTED), False),
    (layout(digest(ATTESTED), ATTESTED, MANIFEST, OTHER), digest(ATTESTED), True),
    (layout(KNOWN), KNOWN, False),  # its manifest's content is not there
    (layout(digest(OTHER), OTHER), digest(OTHER), False)])  # of what it is made nobody knows, so nobody has looked for it
def test_either_digest_names_an_image(text: bytes, ident: str, well: bool) -> None:
    assert image_files.check(iter([text]), {"it": ident}) == ([] if well else ["the image it is not in it"])


@pytest.mark.parametrize(("text", "ident", "others"), [
    (layout(KNOWN, MANIFEST), KNOWN, [ID]), (layout(KNOWN, MANIFEST), ID, [KNOWN]), (layout(KNOWN), KNOWN, []),
    (layout(digest(ATTESTED), ATTESTED, MANIFEST, OTHER), digest(ATTESTED), [ID]),
    (layout(digest(PLATFORMS), PLATFORMS, MANIFEST), digest(PLATFORMS), [ID]),  # the other one was not pulled
    (layout(digest(PLATFORMS), PLATFORMS, MANIFEST, OTHER), digest(PLATFORMS), [ID, FOREIGN])])
def test_one_digest_is_found_by_the_other(tmp_path: Path, text: bytes, ident: str, others: list[str]) -> None:
    """For an engine that stores images otherwise than the one whose images were saved."""
    (tmp_path / "images.tar").write_bytes(text)
    assert image_files._twins(image_files._documents(tmp_path / "images.tar")).get(ident, []) == others


def test_a_layout_that_is_none_is_found() -> None:
    text = layout(KNOWN, MANIFEST).replace(b'{"manifests"', b'["manifests"')
    assert image_files.check(iter([text]), {"it": ID}) == ["index.json is damaged"]


def test_an_index_that_is_none_is_found() -> None:
    assert image_files.check(archive(index=b"{"), IMAGES)[0].startswith("is no archive of images: ")
