"""Images as one tar file: saved so that a server can be rebuilt without a registry, checked, loaded again."""
import contextlib
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from keel import cli, images, proxy, releases, run
from keel.pack import Reader
from keel.settings import Settings
from keel.stop import DATA, NO, UNAVAILABLE, Stop

PIECE = 1 << 20
INDEX = "manifest.json"  # which configuration and layers an image has; Docker Image Specification 1.2, and beside OCI's own since 25
OCI = "index.json"  # OCI Image Layout: the digests of the manifests, by which an engine that stores images in containerd knows them
BLOB = "blobs/sha256/"
SMALL = 4 << 20


def wanted(settings: Settings) -> dict[str, str]:
    """The images of the current and the standby release: the id on this engine by the handle. Raises Stop 1 when there is none."""
    shares = sorted(proxy.current(settings).shares, key=lambda s: -s.percent)
    handles = dict.fromkeys(releases.find(settings, share.release)["image"] for share in shares)
    found = {handle: str(releases.image_here(handle)["Id"]) for handle in handles}
    if not found:
        raise Stop(f"{settings.env} has no release: there is no image to save", NO, "without --images, or after the first deploy")
    return found


def saved(wanted: Mapping[str, str]) -> Iterator[bytes]:
    """`docker save` of these images, layers that they share once; with the tags that they have in their own repository.

    Raises Stop 69 when it fails.
    """
    names = []
    for handle, ident in wanted.items():
        tags = releases.image_here(handle).get("RepoTags") or []
        names += [tag for tag in tags if tag.rpartition(":")[0] == handle.partition("@")[0]] or [ident]
    process = run.start(["docker", "save", *dict.fromkeys(names)])
    assert process.stdout and process.stderr
    try:
        while piece := process.stdout.read(PIECE):
            yield piece
        said = process.stderr.read().decode(errors="replace").strip()
        if process.wait():
            raise Stop(f"docker save: {said}", UNAVAILABLE, "nothing was published")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def check(chunks: Iterator[bytes], wanted: Mapping[str, str]) -> list[str]:
    """What keeps an archive from being loaded as these images: layers that are missing or damaged, or other images in it."""
    there: set[str] = set()
    index: list[dict[str, Any]] = []
    documents: dict[str, dict[str, Any]] = {}
    wrong = []
    try:
        with tarfile.open(fileobj=Reader(chunks), mode="r|", bufsize=1 << 15) as tar:  # type: ignore[call-overload]
            while member := tar.next():
                tar.members = []
                there.add(member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content and member.name == INDEX and member.size < SMALL:
                    index = json.loads(content.read())
                elif content and (member.name.startswith(BLOB) or member.name == OCI):
                    sha, document = _looked(content, member.size)
                    well = bool(document) if member.name == OCI else sha == member.name.removeprefix(BLOB)
                    if not well:
                        wrong.append(f"{member.name} is damaged")
                    elif document:
                        documents[member.name] = document
    except (tarfile.TarError, ValueError) as e:
        wrong.append(f"is no archive of images: {e}")
    for _ in chunks:  # only at its end is it known whether it is what was stored
        pass
    named = [name for one in index for name in (one["Config"], *one["Layers"])]
    wrong += [f"{name} is missing" for name in dict.fromkeys(named) if name not in there]
    ids = {"sha256:" + one["Config"].removeprefix(BLOB).removesuffix(".json") for one in index}
    others = _twins(documents)
    wrong += [f"the image {handle} is not in it" for handle, ident in wanted.items() if ids.isdisjoint([ident, *others.get(ident, [])])]
    return wrong


def _looked(content: IO[bytes], size: int) -> tuple[str, dict[str, Any]]:
    """The SHA-256 of a member, and what it says where it is a small JSON object of OCI's layout; of others nothing is kept."""
    sha, document = hashlib.sha256(), b""
    while piece := content.read(PIECE):
        sha.update(piece)
        document = piece if size <= PIECE else b""
    said = None
    if document.lstrip()[:1] == b"{":
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(document)
    return sha.hexdigest(), said if isinstance(said, dict) and ("manifests" in said or "config" in said) else {}


def _twins(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The other digests of each image: an engine knows it by its configuration's or, with containerd, by its manifest's, or by that of the
    list of manifests where it is one of several platforms. Source: OCI Image Layout; Docker's attestations have the platform `unknown`."""
    found: dict[str, list[str]] = {}

    def walk(top: str, digest: str) -> None:
        said = documents.get(BLOB + digest.removeprefix("sha256:"), {})
        for one in said.get("manifests") or ():
            if one.get("platform", {}).get("os") != "unknown":
                walk(top, one["digest"])
        if config := said.get("config", {}).get("digest"):
            found.setdefault(top, []).append(config)
            found.setdefault(config, []).append(top)

    for one in documents.get(OCI, {}).get("manifests") or ():
        walk(one["digest"], one["digest"])
    return found


def _documents(path: Path) -> dict[str, dict[str, Any]]:
    with tarfile.open(path) as tar:
        small = [m for m in tar if m.isreg() and m.size <= PIECE and (m.name.startswith(BLOB) or m.name == OCI)]
        looked = {m.name: _looked(content, m.size)[1] for m in small if (content := tar.extractfile(m))}
    return {name: said for name, said in looked.items() if said}


def load(path: Path, wanted: Mapping[str, str]) -> None:
    """Give the images back to the engine, each with a tag, and say by which handle to start it. Raises Stop 65 when they were not in it."""
    try:
        run.do(["docker", "load", "--quiet", "--input", str(path)])
    except run.Failed as e:
        raise Stop(f"docker load: {e.said.strip()}", UNAVAILABLE, "is there disk for it? docker system df") from None
    others = _twins(_documents(path))
    for handle, saved_as in wanted.items():
        name = handle.partition("@")[0]
        found = next(filter(None, map(images.find, (saved_as, *others.get(saved_as, ())))), None)
        if not found:
            raise Stop(f"{handle}: was not in the archive as {saved_as}", DATA)
        ident = str(found["Id"])
        if not any(tag.rpartition(":")[0] == name for tag in found.get("RepoTags") or []):
            run.do(["docker", "tag", ident, f"{name}:{ident[7:19]}"])  # what has no name is a mistake away from being pruned
        cli.say(f"{handle}: is here" + ("" if handle.endswith(f"@{ident}") else f", as {name}@{ident}: a registry's digest is not kept"))
