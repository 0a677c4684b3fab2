"""Images as one tar file: saved so that a server can be rebuilt without a registry, checked, loaded again."""
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
    manifests: set[str] = set()
    wrong = []
    try:
        with tarfile.open(fileobj=Reader(chunks), mode="r|", bufsize=1 << 15) as tar:  # type: ignore[call-overload]
            while member := tar.next():
                tar.members = []
                there.add(member.name)
                content = tar.extractfile(member) if member.isreg() else None
                if content and member.name == INDEX and member.size < SMALL:
                    index = json.loads(content.read())
                elif content and member.name == OCI and member.size < SMALL:
                    manifests = {str(one["digest"]).removeprefix("sha256:") for one in json.loads(content.read())["manifests"]}
                elif content and member.name.startswith(BLOB) and _sha256(content) != member.name.removeprefix(BLOB):
                    wrong.append(f"{member.name} is damaged")
    except (tarfile.TarError, ValueError) as e:
        wrong.append(f"is no archive of images: {e}")
    for _ in chunks:  # only at its end is it known whether it is what was stored
        pass
    named = [name for one in index for name in (one["Config"], *one["Layers"])]
    wrong += [f"{name} is missing" for name in dict.fromkeys(named) if name not in there]
    ids = {one["Config"].removeprefix(BLOB).removesuffix(".json") for one in index} | {one for one in manifests if BLOB + one in there}
    wrong += [f"the image {handle} is not in it" for handle, ident in wanted.items() if ident.removeprefix("sha256:") not in ids]
    return wrong


def _sha256(content: IO[bytes]) -> str:
    sha = hashlib.sha256()
    while piece := content.read(PIECE):
        sha.update(piece)
    return sha.hexdigest()


def _twins(path: Path) -> dict[str, str]:
    """The two digests of each image, one by the other: an engine knows it by its configuration's or, with containerd, by its manifest's."""
    found: dict[str, str] = {}
    with tarfile.open(path) as tar:
        there = set(tar.getnames())

        def read(name: str) -> dict[str, Any]:
            content = tar.extractfile(name) if name in there else None
            return dict(json.loads(content.read(SMALL))) if content else {}

        def walk(top: str, digest: str) -> None:
            said = read(BLOB + digest.removeprefix("sha256:"))
            for one in said.get("manifests", ()):  # of several platforms
                walk(top, one["digest"])
            if "config" in said:
                config = said["config"]["digest"]
                found.update({top: config, config: top})

        for one in read(OCI).get("manifests", ()):
            walk(one["digest"], one["digest"])
    return found


def load(path: Path, wanted: Mapping[str, str]) -> None:
    """Give the images back to the engine, each with a tag, and say by which handle to start it. Raises Stop 65 when they were not in it."""
    try:
        run.do(["docker", "load", "--quiet", "--input", str(path)])
    except run.Failed as e:
        raise Stop(f"docker load: {e.said.strip()}", UNAVAILABLE, "is there disk for it? docker system df") from None
    others = _twins(path)
    for handle, saved_as in wanted.items():
        name = handle.partition("@")[0]
        ident = next((i for i in (saved_as, others.get(saved_as, saved_as)) if images.find(i)), "")
        found = images.find(ident) if ident else None
        if not found:
            raise Stop(f"{handle}: was not in the archive as {saved_as}", DATA)
        if not any(tag.rpartition(":")[0] == name for tag in found.get("RepoTags") or []):
            run.do(["docker", "tag", ident, f"{name}:{ident[7:19]}"])  # what has no name is a mistake away from being pruned
        cli.say(f"{handle}: is here" + ("" if handle.endswith(f"@{ident}") else f", as {name}@{ident}: a registry's digest is not kept"))
