"""What runs at night, under a real systemd: the units of backup/systemd, installed as docs/schedule.md says, with real backups."""
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import counts
import pytest
from faulty import Proxy
from s3server import ADMIN, Server

from scenarios.machine import ROOT, Result, until
from scenarios.platform import Platform
from scenarios.systemd import Host, Lacking
from scenarios.test_backup_killed import Dark
from scenarios.test_backup_night import QUICK, Night

pytestmark = pytest.mark.timeout(600)
METRICS = "/var/lib/prometheus/node-exporter"  # there only, outside of the checkout
# What whoever starts systemd has around them is nobody's setting.
AROUND = {"KEEL_ENV": "nowhere", "KEEL_BACKUP_STORES": "file:///nowhere", "AWS_SECRET_ACCESS_KEY": "no", "DOCKER_HOST": "unix:///no"}
STAMP = "/var/lib/systemd/timers/stamp-evenkeel@backup.timer"


class Units(Dark):
    """A platform with data, keys and a bucket, and a host with the units."""

    def __init__(self, platform: Platform, server: Server, host: Host, sent: Path) -> None:
        self.checked: set[str] = set()
        self.host, self.sent = host, sent
        Night.__init__(self, platform, server)
        self.next = self.install()

    def install(self) -> dict[str, datetime]:
        """As the docs say, with the one edit that they ask for where the environment is not `production`; when each timer elapses."""
        target = self.platform.root / "backup" / "systemd"
        target.mkdir()
        for file in (ROOT / "backup" / "systemd").iterdir():
            (target / file.name).write_text(file.read_text().replace("ENV=production", f"ENV={self.platform.name}"))
        self.host.run("mkdir", "-p", METRICS).well()
        self.host.run("bash", "-eu", "-c", installing()).well()
        timers = json.loads(self.host.run("systemctl", "list-timers", "--output=json", "evenkeel@*").well().stdout)
        self.host.run("systemctl", "stop", "evenkeel@*.timer").well()  # none of them interferes, whatever the time is
        return {timer["unit"]: datetime.fromtimestamp(timer["next"] / 1e6, UTC) for timer in timers}

    def to(self, endpoint: str = "", **settings: str) -> None:
        self.platform.set(**{
            "KEEL_BACKUP_STORES": "s3://night/keel", "KEEL_S3_ENDPOINT": endpoint or self.server.endpoint, "KEEL_S3_STYLE": "path",
            "KEEL_BACKUP_HOLD_BELOW": "0", "KEEL_METRICS_DIR": METRICS, **settings})

    def start(self, target: str, *flags: str) -> Result:
        return self.host.run("systemctl", "start", *flags, f"evenkeel@{target}")

    def told(self) -> list[dict[str, str]]:
        """What has arrived outside."""
        file = self.sent / "requests"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def pings(self, since: int) -> list[str]:
        return [said["path"] for said in self.told()[since:]]

    def manifests(self) -> set[str]:
        return {n for n in self.names() if n.startswith("manifests/")}


@contextlib.contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """Who is told: an address that writes down what it is sent."""
    argv = [sys.executable, str(ROOT / "tests" / "receiver.py"), str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def installing() -> str:
    """The commands of docs/schedule.md."""
    found = re.search(r"## With systemd\n.*?```\n(.*?)```", (ROOT / "docs" / "schedule.md").read_text(), re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Units]:
    sent = tmp_path_factory.mktemp("sent")
    with contextlib.ExitStack() as stack:
        platform = stack.enter_context(Platform("nginx"))
        try:
            host = stack.enter_context(Host(platform.root, **AROUND))
        except Lacking as e:
            pytest.skip(f"{counts.BEYOND}{e}; without a real systemd the units are only checked as text")
        server = Server(tmp_path_factory.mktemp("s3"))
        stack.callback(server.stop)
        server.bucket("night")
        at = stack.enter_context(receiver(sent))
        with open(platform.root / "secrets" / f"{platform.name}.env", "a") as file:
            file.write(f"AWS_ACCESS_KEY_ID={ADMIN[0]}\nAWS_SECRET_ACCESS_KEY={ADMIN[1]}\n"
                       f"KEEL_PING_URL={at}/ping/{{job}}\nKEEL_NOTIFY_URL={at}/hook\n")
        yield Units(platform, server, host, sent)


@contextlib.contextmanager
def at_work(units: Units, target: str, action: str = "hold", **settings: str) -> Iterator[Proxy]:
    """A job that is in the middle of an upload of PostgreSQL's, and stays there until the proxy lets go."""
    proxy = Proxy(units.server.port, lambda m, p, n: action if m == "PUT" and "-pg-" in p and "partNumber=" in p else "pass")
    try:
        units.to(proxy.endpoint, **settings)
        cursor = units.host.cursor()
        units.start(target, "--no-block").well()

        def come() -> object:
            assert units.host.show(f"evenkeel@{target}", "ActiveState") == "activating", units.host.journal(f"evenkeel@{target}", cursor)
            return any(done != "pass" for *_, done in proxy.seen) and units.uploads()
        until(come, 120)
        yield proxy
    finally:
        proxy.close()
        units.host.run("systemctl", "stop", f"evenkeel@{target}")
        units.to()


def test_the_timers_elapse_by_utc_whatever_the_time_zone(units: Units) -> None:
    assert set(units.next) == {f"evenkeel@{name}.timer" for name in ("backup", "prune", "drill", "backup-metrics")}
    backup, prune, drill, metrics = (units.next[f"evenkeel@{name}.timer"] for name in ("backup", "prune", "drill", "backup-metrics"))
    assert f"{backup:%H:%M:%S}" == "03:15:00" and f"{prune:%a %H:%M:%S}" == "Sun 09:15:00"
    assert f"{drill:%d %H:%M:%S}" == "01 12:15:00" and drill.month in (1, 4, 7, 10)
    assert metrics.minute in (5, 20, 35, 50)
    assert units.host.run("date", "+%z").stdout != "+0000\n", "the host's zone must not be UTC, or this shows nothing"


def test_a_missed_night_is_made_up_for_and_its_backup_is_whole(units: Units) -> None:
    since, cursor = len(units.told()), units.host.cursor()
    units.host.run("touch", "-d", "2 days ago", STAMP).well()
    units.host.run("systemctl", "start", "evenkeel@backup.timer").well()
    try:
        until(lambda: units.pings(since)[1:] and units.host.show("evenkeel@backup", "ActiveState") != "activating", 240)
    finally:
        units.host.run("systemctl", "stop", "evenkeel@backup.timer").well()
    said = units.host.journal("evenkeel@backup.service", cursor)
    assert units.pings(since) == ["/ping/backup/start", "/ping/backup"], said
    assert units.host.show("evenkeel@backup", "ActiveState") == "inactive" and "Finished evenkeel@backup.service" in said
    ids = [line for line in said.splitlines() if re.fullmatch(r"\d{8}T\d{6}Z-\w+-\w{8}", line)]
    assert [ident.split("-")[1] for ident in ids] == ["pg", "redis", "files"], said
    rows = [json.loads(line) for line in units.platform.run(["backups", "--json"], **units.env).well().stdout.splitlines()]
    assert {row["id"]: (row["ok"], row["level"]) for row in rows if row["id"] in ids} == dict.fromkeys(ids, (True, 5))
    assert [h["backup"] for h in units.platform.history() if h.get("step") == "end" and h.get("backup") in ids], "nothing in the state"
    assert 'kind="pg"' in units.host.run("cat", f"{METRICS}/evenkeel_backups_{units.platform.name}.prom").well().stdout
    units.whole()


def test_a_failure_is_one_for_systemd_too_and_is_told(units: Units) -> None:
    since, cursor, before = len(units.told()), units.host.cursor(), units.names()
    units.to("http://127.0.0.1:9", **QUICK)
    try:
        done = units.start("backup-only")
    finally:
        units.to()
    said = units.host.journal("evenkeel@backup-only.service", cursor)
    assert done.code != 0 and "pg-backup: error: " in said and "backup-only] Error 69" in said, said
    assert [units.host.show("evenkeel@backup-only", name) for name in ("ActiveState", "Result", "ExecMainStatus")] == [
        "failed", "exit-code", "2"], said
    assert "evenkeel@backup-only.service" in units.host.run("systemctl", "--failed", "--no-legend").stdout
    told = units.told()[since:]
    assert [t["path"] for t in told] == ["/ping/backup/start", "/ping/backup/69", "/hook"] and "pg-backup: error: " in told[2]["body"]
    assert units.names() == before


def test_at_work_it_has_an_environment_of_its_own_its_limits_and_the_lock(units: Units) -> None:
    since, cursor = len(units.told()), units.host.cursor()
    with at_work(units, "backup-only") as proxy:
        pid = units.host.show("evenkeel@backup-only", "MainPID")
        names = {pair.partition("=")[0] for pair in units.host.run("cat", f"/proc/{pid}/environ").well().stdout.split("\0")}
        assert "PATH" in names and not names & set(AROUND), names
        status = units.host.run("cat", f"/proc/{pid}/status").well().stdout
        assert re.search(r"NoNewPrivs:\t1\n", status) and re.search(r"Seccomp:\t2\n", status), status
        mounts = {line.split()[4]: line.split()[5] for line in units.host.run("cat", f"/proc/{pid}/mountinfo").well().stdout.splitlines()}
        assert all(mounts[place].startswith("ro") for place in ("/usr", "/etc", "/root", "/sys/fs/cgroup")), mounts
        # The same job joins the one that runs; another is turned away.
        units.start("backup-only", "--no-block").well()
        assert units.start("prune").code != 0
        turned = units.host.journal("evenkeel@prune.service", cursor)
        assert re.search(r"the backups of \w+ are locked by pid \d+: backup since", turned) and "prune] Error 75" in turned, turned
        assert "/ping/prune/75" in units.pings(since)
        proxy.let_go.set()
        until(lambda: units.host.show("evenkeel@backup-only", "ActiveState") != "activating", 120)
    said = units.host.journal("evenkeel@backup-only.service", cursor)
    assert "Finished evenkeel@backup-only.service" in said, said
    assert [p for p in units.pings(since) if "backup" in p] == ["/ping/backup/start", "/ping/backup"], said
    units.whole()


def test_a_stop_in_the_middle_takes_back_what_is_half_made(units: Units) -> None:
    """The store hangs, so taking back takes a while: longer than the rest of the job takes to end."""
    since, cursor, before = len(units.told()), units.host.cursor(), units.names()
    with at_work(units, "backup", "hang", KEEL_S3_TIMEOUT="10s", KEEL_S3_ATTEMPTS="1"):
        units.host.run("systemctl", "stop", "evenkeel@backup").well()
        # It has waited for all of it: nothing is in the store, in the spool, in the engine; and the lock is free.
        said = units.host.journal("evenkeel@backup.service", cursor)
        assert units.names() == before and not units.left(), f"{units.left()}\n{said}"
    assert said.index("with-report: error: backup failed") < said.index("Main process exited"), said
    assert units.pings(since) == ["/ping/backup/start", "/ping/backup/143", "/hook"], said
    assert "SIGKILL" not in said and "Stopped evenkeel@backup.service" in said, said


def test_one_that_does_not_end_is_killed_and_keeps_nobody_out(units: Units) -> None:
    before = units.manifests()
    folder = "/run/systemd/system/evenkeel@backup.service.d"
    units.host.run("sh", "-c", f"mkdir -p {folder} && printf '[Service]\\nTimeoutStopSec=1s\\n' >{folder}/hasty.conf").well()
    units.host.run("systemctl", "daemon-reload").well()
    try:
        with at_work(units, "backup", "hang"):
            units.host.run("systemctl", "stop", "evenkeel@backup").well()
            assert units.host.show("evenkeel@backup", "Result") == "timeout"
            assert units.uploads(), "the harness would not see what is left of an upload"
            assert units.manifests() == before and not units.locked()
    finally:
        units.host.run("rm", "-r", folder).well()
        units.host.run("systemctl", "daemon-reload").well()
    units.platform.run(["pg-backup"], **units.env).well()
    assert len(units.manifests() - before) == 1 and not units.boxes()
    units.whole()
