"""How long it takes to list 1,000 backups that lie in a bucket, with a verdict on each, and to plan the pruning of 10,000."""
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from keel import forms, keep, manifest, signed
from keel.manifest import Manifest, Part, Verdict
from keel.stores import Store

DATA = b"x" * 64


def fill(store: Store, env: str, keyfile: Path, count: int) -> None:
    """So many backups, one a day back from now; each with its object and a verdict."""
    key, now = signed.load_key(keyfile), datetime.now(UTC).replace(microsecond=0)

    def one(n: int) -> None:
        when = now - timedelta(days=n)
        ident, text, digest = manifest.new_id("pg", when), forms.text_of(when), hashlib.sha256(DATA).hexdigest()
        part = Part("database.dump.zst.age", len(DATA), digest, 10, digest)
        store.put(f"{env}/objects/{ident}/{part.name}", DATA)
        facts = {"rows": {f"public.table_{i}": i for i in range(50)}}  # as long as that of a real database
        made = manifest.write(store, Manifest(ident, "pg", manifest.new_set(when), env, "db1", text, text, "7301234567890123456", (part,),
                                              "daily", ("age1qqqq",), "evenkeel", facts), key)
        manifest.write_verdict(store, env, Verdict(ident, made.digest, text, True, 5, {"restore": 1.5}, (), "verify1"), key)

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(one, range(count)):
            pass


def planning(count: int) -> float:
    """The seconds of one plan over so many backups of three years and more."""
    now = datetime.now(UTC)
    backups = [keep.Backup(f"{n}", now - timedelta(hours=3 * n), "7301", "pg", "production", verified=True) for n in range(count)]
    begin = time.monotonic()
    plan = keep.plan(backups, now, keep.Policy())
    took = time.monotonic() - begin
    assert len(plan.keep) + len(plan.delete) == count
    return took
