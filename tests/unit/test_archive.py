"""A tree of files into a tar stream and back: the same to the last byte, mode, owner and nanosecond, whatever the names are; what changes
underneath is seen, what would lead out of the target is refused."""
import hashlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keel import archive, tree, unarchive
from keel.stop import CONFIG, NO, Stop
from keel.tree import Noted

ROOT = os.geteuid() == 0
ODD = [b"\n", b" ", b"\xff\xfe", b"5 hdrcharset=BINARY\n", "ü".encode(), b"a" * 255, b".x", b"..x"]
NAMES = st.binary(min_size=1, max_size=20) | st.sampled_from(ODD)
GOOD = NAMES.map(lambda n: n.replace(b"/", b"_").replace(b"\0", b"_")).filter(lambda n: n not in (b".", b".."))
LINKS = st.binary(min_size=1, max_size=200).map(lambda n: n.replace(b"\0", b"_"))
MODES = st.integers(0, 0o7777) if ROOT else st.integers(0, 0o7777).map(lambda m: m | 0o700)
TIMES = st.integers(-2 * 10**18, 4 * 10**18) | st.sampled_from([0, 1, -1, 10**9, -(10**9), 10**9 - 1])
FILES = st.tuples(st.just("f"), st.binary(max_size=1500), MODES, TIMES)
TREES = st.dictionaries(GOOD, st.recursive(FILES | st.tuples(st.just("l"), LINKS, st.just(0o777), TIMES), lambda inner: st.tuples(
    st.just("d"), st.dictionaries(GOOD, inner, max_size=4), MODES, TIMES), max_leaves=12), max_size=5)


def build(folder: bytes, content: dict[bytes, tuple]) -> None:
    """Put such a tree into a folder."""
    for name, (kind, what, mode, time) in content.items():
        path = os.path.join(folder, name)
        if kind == "d":
            os.mkdir(path)
            build(path, what)
        elif kind == "l":
            os.symlink(what, path)
        else:
            with open(path, "wb") as f:
                f.write(what)
        if kind != "l":
            os.chmod(path, mode)
        os.utime(path, ns=(time, time), follow_symlinks=False)


def look(folder: Path) -> dict[bytes, tuple]:
    """All that is in a folder, asked of the system in another way than keel does: type, mode, owner, time, content by path."""
    found = {}
    for top, folders, names in os.walk(os.fsencode(folder)):
        for path in (os.path.join(top, n) for n in [*folders, *names]):
            info = os.lstat(path)
            content: bytes | None = None
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            found[os.path.relpath(path, os.fsencode(folder))] = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, content)
    return found


def digest(found: dict[bytes, tuple]) -> str:
    """The digest as the docstring of keel.tree tells it."""
    lines = []
    for path, (mode, _, _, _, content) in found.items():
        kind = "d" if stat.S_ISDIR(mode) else "l" if stat.S_ISLNK(mode) else "f"
        size, sha = (0, "") if content is None else (len(content), hashlib.sha256(content).hexdigest())
        lines.append((path + b"/" * (kind == "d"), f"\0{kind} {stat.S_IMODE(mode):04o} {size} {sha}\n".encode()))
    return hashlib.sha256(b"".join(a + b for a, b in sorted(lines))).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def pack(folder: Path, noted: Noted | None = None) -> Iterator[bytes]:
    return archive.stream([("data", folder)], noted or Noted())


@settings(max_examples=150, deadline=None)
@given(content=TREES, mode=MODES)
@example(content={b"a.b": ("f", b"", 0o600, 0), b"a": ("d", {b"x": ("f", b"1", 0o600, 0)}, 0o700, 5), b"a0": ("f", b"", 0o600, 0)},
         mode=0o700)  # a/ sorts between the two, a does not
def test_any_tree_comes_back(content: dict[bytes, tuple], mode: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source", Path(name) / "target"
        source.mkdir()
        target.mkdir()
        build(os.fsencode(source), content)
        source.chmod(mode)
        noted = Noted()
        tally, later = unarchive.extract(pack(source, noted), target)
        unarchive.settle(target, later)
        before, after = look(source), look(target / "data")
        assert after == before
        assert os.stat(source).st_mtime_ns == os.stat(target / "data").st_mtime_ns
        assert tally.facts() == noted.tally.facts() and noted.facts()["vanished"] == noted.facts()["skipped"] == []
        whole = {b"data": (os.stat(source).st_mode, 0, 0, 0, None), **{b"data/" + path: value for path, value in before.items()}}
        assert noted.facts()["sha256"] == digest(whole)
        kinds = [stat.S_IFMT(mode) for mode, *_ in whole.values()]
        assert [tally.files, tally.folders, tally.links] == [kinds.count(k) for k in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)]
        if not ROOT:
            for top, folders, _ in os.walk(name):
                for one in folders:
                    os.chmod(os.path.join(top, one), 0o700)


def test_tar_itself_reads_it(source: Path, tmp_path: Path) -> None:
    build(os.fsencode(source), {b"caf\xe9\n": ("f", b"x" * 700, 0o4751, 1_700_000_000_123_456_789), b"d": ("d", {b"n" * 200: (
        "f", b"", 0o600, 7)}, 0o1777, 5 * 10**9), b"to": ("l", b"../nowhere/" + b"z" * 150, 0o777, 9)})
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "x.tar").write_bytes(b"".join(pack(source)))
    subprocess.run(["tar", "-xpf", tmp_path / "x.tar", "-C", target, "--numeric-owner"], check=True)
    assert look(target / "data") == look(source)


def test_several_roots_are_in_the_order_of_their_names(source: Path, tmp_path: Path) -> None:
    build(os.fsencode(source), {b"x": ("d", {b"f": ("f", b"1", 0o600, 0)}, 0o700, 0), b"y": ("f", b"2", 0o600, 0)})
    (tmp_path / "link").symlink_to(source / "y")
    noted = Noted()
    roots = [("b/y", tmp_path / "link"), ("b/x", source / "x"), ("a", source / "y"), ("c", source / "x"), ("c.d", source / "y")]
    target = tmp_path / "target"
    target.mkdir()
    tally, _ = unarchive.extract(archive.stream(roots, noted), target)
    found = look(target)
    assert sorted(found) == [b"a", b"b", b"b/x", b"b/x/f", b"b/y", b"c", b"c.d", b"c/f"]
    assert found[b"b/y"][4] == b"2", "a root that is a link is followed"
    del found[b"b"]
    assert tally.facts()["sha256"] == noted.tally.facts()["sha256"] == digest(found)


def big(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(os.urandom(1 << 16) * (archive.LARGE >> 16) + b"end")
    return path


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": lambda p: p.open("ab").write(b"x"), "shrinks": lambda p: os.truncate(p, archive.LARGE),
    "is cut off": lambda p: os.truncate(p, 5), "is written over": lambda p: p.open("r+b").write(b"y")}


@pytest.mark.parametrize("change", CHANGES)
def test_a_large_file_that_changes_while_it_is_streamed_is_refused(source: Path, change: str) -> None:
    path = big(source, "film")
    chunks = pack(source)
    next(chunks)
    CHANGES[change](path)
    with pytest.raises(Stop, match=r"/source/film: changed while it was read") as stopped:
        list(chunks)
    assert stopped.value.code == NO


def test_a_large_file_that_rests_is_well(source: Path, tmp_path: Path) -> None:
    path = big(source, "film")
    unarchive.extract(pack(source), tmp_path)
    assert (tmp_path / "data" / "film").read_bytes() == path.read_bytes()


class Meddled(io.FileIO):
    """A file that somebody writes to while it is read, the first so many times that it is read."""

    times = 0

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        begin, got = self.tell(), super().read(size) or b""
        if self.times and not begin:
            self.times -= 1
            with open(str(self.name), "ab") as f:
                f.write(b"more")
        return got


@pytest.mark.parametrize("times", [0, 1, archive.TRIES, archive.TRIES + 1])
def test_a_small_file_is_read_again_until_it_rests(source: Path, times: int) -> None:
    (source / "log").write_bytes(b"one")
    noted = Noted()
    entry = [*tree.walk(source / "log", "log", noted)][0]
    with Meddled(source / "log") as f:
        f.times = times
        if times > archive.TRIES:
            with pytest.raises(Stop, match=r"log: changed while it was read"):
                list(archive._file(entry, f, noted))
            assert noted.tally.files == 0
        else:
            pieces = list(archive._file(entry, f, noted))
            assert pieces[1] == b"one" + b"more" * times and noted.tally.bytes == len(pieces[1])
            assert tarfile.TarInfo.frombuf(pieces[0][-512:], "utf-8", "strict").size == len(pieces[1])


def test_what_vanishes_is_marked_and_what_is_no_file_is_named(source: Path, tmp_path: Path) -> None:
    big(source, "a")
    for name in ("b", "c", "d/e", "f/g"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(source / "sock"))
    noted = Noted()
    chunks = pack(source, noted)
    rest = [next(chunks)]
    (source / "b").unlink()
    shutil.rmtree(source / "f")
    tally, _ = unarchive.extract(iter([*rest, *chunks]), tmp_path)
    assert noted.facts()["vanished"] == ["data/b", "data/f"] and noted.facts()["skipped"] == ["data/pipe", "data/sock"]
    assert {p.name for p in (tmp_path / "data").rglob("*")} == {"a", "c", "d", "e"}
    assert tally.facts() == noted.tally.facts()


def test_what_vanishes_once_it_was_looked_at_is_marked_too(source: Path) -> None:
    (source / "f").write_text("x")
    noted = Noted()
    for entry in tree.walk(source, "data", noted):
        if entry.kind == "f":
            (source / "f").unlink()
            assert list(archive._member(entry, noted)) == []
    assert noted.vanished == ["data/f"] and noted.tally.files == 0


def test_no_link_is_followed_even_when_it_comes_while_we_read(source: Path, tmp_path: Path) -> None:
    big(source, "a")
    (source / "d").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    chunks = pack(source)
    rest = [next(chunks)]
    (source / "d").rmdir()
    (source / "d").symlink_to(tmp_path / "outside")
    with pytest.raises(Stop, match=r"/source/d: became something else while it was read"):
        rest += chunks
    assert b"secret" not in b"".join(rest)


@pytest.mark.parametrize("name", ["file", "folder"])
def test_what_may_not_be_read_is_said(name: str) -> None:
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        path = Path(top) / name
        path.mkdir(0) if name == "folder" else path.touch(0)
        if ROOT:  # who may read everything
            os.seteuid(65534)
        try:
            with pytest.raises(Stop, match=rf"{path}: permission denied") as stopped:
                list(pack(Path(top)))
        finally:
            if ROOT:
                os.seteuid(0)
            path.chmod(0o700)
        assert stopped.value.code == CONFIG


def test_long_lists_of_names_are_cut() -> None:
    said = tree.some([f"a\n{n}" for n in range(tree.NAMED + 3)])
    assert said[0] == "a\\n0" and said[-1] == "and 3 more" and len(said) == tree.NAMED + 1
    assert tree.printable(os.fsdecode(b"caf\xe9")) == "caf\\xe9"


def made(*members: tuple[str, bytes, str], mode: int = 0o644) -> Iterator[bytes]:
    """An archive as somebody else would make it: name, type, link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in members:
            one = tarfile.TarInfo(name)
            one.mode, one.type, one.linkname, one.size = mode, kind, link, 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(one, io.BytesIO(b"evil"))
    yield out.getvalue()


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "//out", "./../out", "a//b", ".", ".."])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_no_name_leads_out(tmp_path: Path, name: str, kind: bytes) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(unarchive.Unfit, match="a name that leads elsewhere"):
        unarchive.extract(made((name, kind, "/etc")), target)
    assert [*tmp_path.iterdir()] == [target] and not any(p.is_file() for p in target.rglob("*"))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE])
def test_only_files_folders_and_links(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(unarchive.Unfit, match="dev: is no file, folder or link"):
        unarchive.extract(made(("dev", kind, "/etc/passwd")), tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_written_through_a_link_of_the_archive(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(Stop, match="down: is there and is no folder"):
        unarchive.extract(made(("down", tarfile.SYMTYPE, ".."), ("down/out", tarfile.REGTYPE, "")), target)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_link_of_the_target(source: Path, tmp_path: Path) -> None:
    (source / "f").write_text("new")
    (source / "d").mkdir()
    (source / "d" / "g").write_text("new")
    target = tmp_path / "target"
    (target / "data").mkdir(parents=True)
    (tmp_path / "kept").write_text("old")
    (target / "data" / "f").symlink_to(tmp_path / "kept")
    unarchive.extract(pack(source), target)
    assert (tmp_path / "kept").read_text() == "old" and (target / "data" / "f").read_text() == "new"
    shutil.rmtree(target / "data" / "d")
    (target / "data" / "d").symlink_to(tmp_path)
    with pytest.raises(Stop, match="data/d: is there and is no folder") as stopped:
        unarchive.extract(pack(source), target)
    assert stopped.value.code == NO and not (tmp_path / "g").exists()


def test_a_folder_is_not_replaced_by_a_file(source: Path, tmp_path: Path) -> None:
    (source / "f").write_text("new")
    target = tmp_path / "target"
    (target / "data" / "f" / "inside").mkdir(parents=True)
    with pytest.raises(Stop, match="data/f: is there and is a folder"):
        unarchive.extract(pack(source), target)
    assert [p.name for p in (target / "data").iterdir()] == ["f"], "nothing is left aside"


def test_folders_that_are_closed_to_their_owner_come_back_without_root() -> None:
    with tempfile.TemporaryDirectory() as name:
        target = Path(name)
        target.chmod(0o777)
        if ROOT:
            os.seteuid(65534)
        try:
            tally, later = unarchive.extract(made(("d", tarfile.DIRTYPE, ""), ("d/e", tarfile.DIRTYPE, ""), ("d/e/f", tarfile.REGTYPE, ""),
                                                  mode=0), target)
            unarchive.settle(target, later)
        finally:
            if ROOT:
                os.seteuid(0)
        assert tally.files == 1 and not stat.S_IMODE((target / "d").stat().st_mode)
        (target / "d").chmod(0o700)
        assert not stat.S_IMODE((target / "d" / "e").stat().st_mode)
        (target / "d" / "e").chmod(0o700)


@pytest.mark.parametrize("text", [b"", b"x", b"no archive " * 1000])
def test_what_is_no_archive_is_read_to_its_end_and_refused(tmp_path: Path, text: bytes) -> None:
    chunks = iter([text, b"rest", b"rest"])
    with pytest.raises(unarchive.Unfit, match="is no tar archive"):
        unarchive.extract(chunks, tmp_path)
    assert next(chunks, None) is None


def test_an_archive_that_is_cut_short_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "f").write_bytes(b"x" * 5000)
    whole = b"".join(pack(source))
    with pytest.raises(unarchive.Unfit, match="is no tar archive: unexpected end of data"):
        unarchive.extract(iter([whole[:4000]]), tmp_path)
    assert list((tmp_path / "data").iterdir()) == []
