"""forge: another backup made from one in a folder store, changed as a test wants it, and signed and sealed as if it were true.

    forge.py FOLDER ENV ID NEWID [PATH=JSON | NAME=@FILE | NAME]...       in a checkout that has the keys of backup_keys; prints NEWID

PATH is a field of the manifest (lineage, facts.rows, facts.server.version_num); @FILE the new content of an object; NAME alone drops one.
"""
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

from keel import age_keys, forms, manifest, pack, signed
from keel.manifest import Part
from keel.store_file import open_folder


def main(folder: str, env: str, ident: str, new: str, *changes: str) -> None:
    store, key = open_folder(folder), signed.load_key(Path("secrets/backup-sign.pem"))
    old = manifest.read(store, env, ident, signed.trusted(Path("backup/signers")))
    recipients = age_keys.recipients_file(Path("backup/recipients"))
    contents: dict[str, Path | None] = {}
    fields: dict[str, Any] = {}
    facts = json.loads(json.dumps(old.facts))
    for change in changes:
        path, _, value = change.partition("=")
        if not value or value.startswith("@"):
            contents[path] = Path(value[1:]) if value else None
        elif path.startswith("facts."):
            *way, last = path.split(".")[1:]
            inner = facts
            for step in way:
                inner = inner[step]
            inner[last] = json.loads(value)
        else:
            fields[path] = json.loads(value)
    stored = {p.name: b"".join(store.read(f"{env}/objects/{ident}/{p.name}")) for p in old.objects}
    if new == ident:
        store.delete(f"{env}/manifests/{ident}")
        for p in old.objects:
            store.delete(f"{env}/objects/{ident}/{p.name}")
    parts: list[Part] = []
    for part in old.objects:
        name = part.name.removesuffix(pack.SUFFIX)
        if name not in contents:
            store.upload(f"{env}/objects/{new}/{part.name}", iter([stored[part.name]]))
            parts.append(part)
        elif source := contents[name]:
            packing = pack.Packing(name, iter([source.read_bytes()]), recipients)
            store.upload(f"{env}/objects/{new}/{packing.name}", packing.chunks)
            parts.append(packing.part())
    when = forms.text_of(forms.moment(new[:16]))
    changed = {"id": new, "created": when, "finished": max(when, old.finished), "objects": tuple(parts), "facts": facts, "digest": ""}
    manifest.write(store, dataclasses.replace(old, **{**changed, **fields}), key)
    print(new)


if __name__ == "__main__":
    main(*sys.argv[1:])
