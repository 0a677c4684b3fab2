"""backups: put signed backups of any age into a folder store, as a test wants them; prints their ids, in order.

    backups.py KEYFILE FOLDER ENV SPEC...      SPEC is KIND:AGE[:WORD...], AGE as 3d, 50h or 90s (negative: to come)

Words: ok, bad (a verdict of that kind), young (that verdict is of a level that restores nothing), held, released (with a note),
to=KEY+KEY (its recipients), locked (until tomorrow, in the store too), bare (no manifest), cut (an object shorter than the manifest says),
gone (no object), spoiled (a byte of the manifest changed), alien (signed by nobody we trust).
"""
import hashlib
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402

from keel import forms, held, manifest, signed  # noqa: E402
from keel.manifest import Manifest, Part, Verdict  # noqa: E402
from keel.store_file import Folder, open_folder  # noqa: E402


def make(store: Folder, key: Ed25519PrivateKey, env: str, spec: str) -> str:
    """One backup; its id."""
    kind, age, *words = spec.split(":")
    when = datetime.now(UTC).replace(microsecond=0) - timedelta(**{{"s": "seconds", "h": "hours", "d": "days"}[age[-1]]: int(age[:-1])})
    name, time, data = manifest.new_id(kind, when), forms.text_of(when), os.urandom(64)
    until = datetime.now(UTC) + timedelta(days=1) if "locked" in words else None
    place = f"{env}/objects/{name}/data.zst.age"
    if "gone" not in words:
        store.put(place, data[:-1] if "cut" in words else data, absent=True, lock_until=until)
        os.utime(store.root / place, (when.timestamp(),) * 2)
    if "bare" in words:
        return name
    digest = hashlib.sha256(data).hexdigest()
    to = next((w[3:].split("+") for w in words if w.startswith("to=")), ["age1qqqq"])
    signer = Ed25519PrivateKey.generate() if "alien" in words else key
    m = manifest.write(store, Manifest(
        name, kind, manifest.new_set(when), env, "db1", time, time, "7301234567890123456" if kind == "pg" else env,
        (Part("data.zst.age", len(data), digest, 10, digest),), "daily", tuple(to), "evenkeel",
        lock_until=forms.text_of(until) if until else "", held="a tenth of its predecessors" if "held" in words else ""), signer)
    if "released" in words:
        held.write(store, env, held.Release(name, m.digest, time, "looked at it", "db1"), key)
    for word in {"ok", "bad", "young"} & set(words):
        manifest.write_verdict(store, env, Verdict(name, m.digest, time, word != "bad", 2 if word == "young" else 5, {"restore": 1.5},
                                                   ("events: 3 rows, 5 wanted",) if word == "bad" else (), "verify1"), key)
    if "spoiled" in words:
        path = store.root / f"{env}/manifests/{name}"
        path.write_text(path.read_text().replace("db1", "db2"))
    return name


def main(keyfile: str, folder: str, env: str, *specs: str) -> None:
    store, key = open_folder(folder), signed.load_key(Path(keyfile))
    for spec in specs:
        print(make(store, key, env, spec))


if __name__ == "__main__":
    main(*sys.argv[1:])
