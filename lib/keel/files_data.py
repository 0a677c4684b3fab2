"""A files backup brought back: tried in the spool folder, or put into a folder; its images into the engine."""
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keel import cli, host, image_files, into, pack, recover, unarchive
from keel.checked import Checked
from keel.pack import SUFFIX
from keel.phases import Phases
from keel.recover import Found
from keel.settings import Settings
from keel.stop import NO, Stop
from keel.tree import Tally

TREES, IMAGES = ("config", "uploads"), "images"


def verify(settings: Settings, found: Found, folder: Path) -> Checked:
    """Extract each tree, and compare it with the manifest to the last file, its mode and content; read the images' archive through.

    Raises Stop 65 for an object that is not what was stored.
    """
    checked, facts, keys = Checked(5), found.manifest.facts, recover.identities(settings)
    phase = Phases(checked.seconds)
    names = {part.name.removesuffix(f".tar{SUFFIX}"): part for part in found.manifest.objects}
    checked.findings += [f"{name}.tar: is in the manifest's facts and not among its objects" for name in facts if name not in names]
    for name, part in names.items():
        if name not in (*TREES, IMAGES) or name not in facts:
            checked.findings.append(f"{part.name}: the manifest does not say what is in it")
            continue
        with phase("images" if name == IMAGES else "restore"):
            chunks = found.content(part, keys)
            wrong = image_files.check(chunks, facts[name]) if name == IMAGES else _tried(chunks, folder / name, facts[name])
        checked.findings += [f"{name}.tar: {text}" for text in wrong]
    return checked


def _tried(chunks: Iterator[bytes], target: Path, facts: Mapping[str, Any]) -> list[str]:
    target.mkdir()
    try:
        tally, _ = unarchive.extract(chunks, target)
    except unarchive.Unfit as e:
        return [e.message]
    return _differs(tally, facts)


def _differs(tally: Tally, facts: Mapping[str, Any]) -> list[str]:
    there = tally.facts()
    wrong = [f"{there[name]} {name} were restored, the manifest says {facts[name]}" for name in ("files", "folders", "links", "bytes")
             if there[name] != facts[name]]
    if not wrong and there["sha256"] != facts["sha256"]:
        wrong.append(f"what was restored has the digest {there['sha256']}, the manifest says {facts['sha256']}")
    return wrong


def restore(settings: Settings, found: Found, target: str, confirm: str, folder: Path) -> None:
    """Put the trees into the folders `config` and `uploads` of a target folder, which must be empty or be confirmed by its absolute path;
    or, where the target is `engine`, the images into the engine.

    Raises Stop 1 when it is not confirmed or there is no disk, 65 for an object that is not whole and well: nothing has changed then.
    """
    facts = found.manifest.facts
    if target == "engine":
        image_files.load(into.fetched(settings, found, f"{IMAGES}.tar", folder), facts[IMAGES])
        return
    place = into.folder(target, confirm)
    host.room(settings, place, sum(facts[name]["bytes"] for name in TREES if name in facts))
    fetched = {name: into.fetched(settings, found, f"{name}.tar", folder) for name in TREES if name in facts}
    for name, path in fetched.items():
        inside = place / name
        for new in (place, inside):
            new.mkdir(mode=0o700, parents=True, exist_ok=True)
        tally, later = unarchive.extract(pack.file(path), inside)
        unarchive.settle(inside, later)
        path.unlink()
        wrong = _differs(tally, facts[name])
        if wrong:
            raise Stop("\n".join(f"{name}.tar: {text}" for text in wrong), NO, f"what is in {inside} is not to be trusted")
        cli.say(f"{inside}: {tally.files} files, {tally.folders} folders and {tally.links} links, {tally.bytes} bytes")
    os.sync()
    if IMAGES in facts:
        cli.say("its images are not restored: --to engine brings them")
