"""Redis, asked by its own programs in a container beside it: what INFO says, a dump, and what redis-check-rdb says of one.

The password is read from a file at /keel: it is in no argv, and not in what `docker inspect` shows.
"""
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keel import forms, state, tools
from keel.settings import Settings
from keel.stop import UNAVAILABLE, Stop

PASSWORD = "redispass"
WITH = 'REDISCLI_AUTH=$(cat "$0") exec redis-cli "$@"'
KEYSPACE = re.compile(r"keys=(\d+),expires=(\d+)")
LOOKS = 4  # within the time that a dump may stand still
HINT = "is it stopped, or busy with one long command? `logs redis` shows its own words; {limit} is how long it may take"
COUNTS = ("keys", "expires", "expired", "subexpires")


def pass_file(folder: Path, password: str, name: str = PASSWORD) -> None:
    """A password where the programs read it; the container runs as who runs us."""
    state.write(folder / name, password, 0o600)


@dataclass(frozen=True)
class Server:
    """A Redis, reached from a container: `way` is how (as -h NAME or -s SOCKET), the password, if it has one, in a file at /keel.

    `patience` is for how many seconds it may give no sign of life (0: for ever), `limit` the setting that says so.
    """

    box: str
    way: tuple[str, ...]
    password: str = PASSWORD
    patience: float = 0
    limit: str = ""

    def argv(self, *words: str) -> list[str]:
        """A redis-cli; `words` are for no secret."""
        if not self.password:
            return ["redis-cli", *self.way, *words]
        return ["sh", "-c", WITH, f"/keel/{self.password}", *self.way, *words]

    def ask(self, *words: str) -> str:
        """What a command answers. Raises Stop 69 with the words of Redis or of redis-cli."""
        program = self._cli(["-e", *words])
        assert program.process.stdout
        with program.within(self.patience, f"redis did not answer {words[0]} within {self.patience:g} s", self._hint()):
            said = program.process.stdout.read().decode(errors="replace")
            program.well()
        return said.strip()

    def tell(self, *commands: Sequence[str]) -> None:
        """Give commands on stdin, for what is secret; each must answer OK. Raises Stop 69 with what was answered."""
        program = self._cli([], subprocess.PIPE)
        text = "".join(" ".join('"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words) + "\n" for words in commands)
        assert program.process.stdin and program.process.stdout
        with program.within(self.patience, f"redis did not answer within {self.patience:g} s", self._hint()):
            try:
                program.process.stdin.write(text.encode())
                program.process.stdin.close()
            except BrokenPipeError:  # it ended before it read all: its own words say why
                program.well()
            said = program.process.stdout.read().decode(errors="replace").split("\n")
            program.well()
        wrong = [line for line in said if line.strip() not in ("", "OK")]
        if wrong:
            raise Stop(f"redis: {'; '.join(wrong)}", UNAVAILABLE, "its own words stand above")

    def info(self) -> dict[str, str]:
        """INFO, every field of it, all of one moment."""
        pairs = (line.partition(":") for line in self.ask("INFO").splitlines() if ":" in line)
        return {name: value.strip() for name, _, value in pairs}

    def dump(self, path: Path) -> None:
        """Make Redis stream a fresh RDB into a file of the folder at /keel, by its replication protocol. Raises Stop 69, also when it
        stands still: no byte comes, and no key is saved, as where it writes the dump to its own disk first."""
        program = self._cli(["-e", "--rdb", f"/keel/{path.name}"])
        size, keys, since = 0, "", time.monotonic()
        while True:
            try:
                program.process.wait(self.patience / LOOKS or None)
                break
            except subprocess.TimeoutExpired:
                now = path.stat().st_size if path.exists() else 0
                saved = "" if now > size else self._saved()
            if now > size or saved not in ("", keys):
                size, keys, since = now, saved or keys, time.monotonic()
            elif time.monotonic() - since >= self.patience:
                program.stop()
                raise Stop(f"the dump stands still: for {self.patience:g} s redis has sent nothing after {size} bytes", UNAVAILABLE,
                           self._hint())
        program.well()

    def _saved(self) -> str:
        """How many keys the save that runs has written; nothing where Redis does not answer either."""
        try:
            return replace(self, patience=self.patience / LOOKS).info().get("current_save_keys_processed", "")
        except Stop:
            return ""

    def _cli(self, words: list[str], stdin: int = subprocess.DEVNULL) -> tools.Program:
        program = tools.Program(self.box, self.argv(*words), stdin)
        program.name = "redis-cli"
        return program

    def _hint(self) -> str:
        return HINT.format(limit=self.limit)


def at(settings: Settings, box: str, folder: Path, limit: str) -> Server:
    """The environment's Redis, from a container on its network; `limit` is the setting that says how long it may give no sign of life."""
    pass_file(folder, settings["REDIS_PASSWORD"])
    return Server(box, ("-h", "redis"), patience=settings.seconds(limit), limit=limit)


def keyspace(info: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Of each database that holds any: how many keys, and how many of those expire."""
    found = {name: KEYSPACE.match(value) for name, value in info.items() if re.fullmatch(r"db\d+", name)}
    return {name: (int(m[1]), int(m[2])) for name, m in found.items() if m}


def keys(info: dict[str, str]) -> int:
    """How many keys there are in all databases."""
    return sum(n for n, _ in keyspace(info).values())


def check(box: str, name: str) -> tuple[dict[str, Any], str]:
    """What redis-check-rdb says of a dump at /keel: what it holds, and what is wrong with it in one line, or nothing.

    The fields are those that `facts` documents.
    """
    program = tools.Program(box, ["redis-check-rdb", f"/keel/{name}"])
    assert program.process.stdout
    text = program.process.stdout.read().decode(errors="replace")
    code = program.process.wait()
    if code:
        said = [line for line in [*text.splitlines(), program.said()] if line.strip() and "AUX FIELD" not in line]
        at = next((n for n, line in enumerate(said) if "ERROR" in line), 0)
        return {}, f"redis-check-rdb: {'; '.join(said[at:at + 4]) or f'ended with {code}'}"
    counted = {name: int(n) for n, name in re.findall(r"^\[info\] (\d+) (keys|expires|already expired|subexpires)\b", text, re.MULTILINE)}
    counted["expired"] = counted.pop("already expired", 0)
    aux = dict(re.findall(r"AUX FIELD ([\w-]+) = '([^']*)'", text))
    return {**{name: counted.get(name, 0) for name in COUNTS}, "made_by": aux.get("redis-ver", ""),
            "time": forms.text_of(datetime.fromtimestamp(int(aux.get("ctime", 0)), UTC))}, ""


def facts(path: Path, checked: dict[str, Any], info: dict[str, str]) -> dict[str, Any]:
    """What the manifest says of a dump.

    version      of the server             rdb_version  of the file's format
    used_memory  bytes, of the server      made_by      the version that wrote the file
    keys         in all databases          expires      how many of them have an expiry, `expired` were past it when the dump was checked
    subexpires   hashes with fields that expire (from Redis 7.4 on)
    time         when the dump began, UTC
    """
    with open(path, "rb") as f:
        magic = f.read(9)
    return {"version": info["redis_version"], "rdb_version": int(magic[5:]), "used_memory": int(info["used_memory"]), **checked}
