"""A host with a real systemd for a scenario: PID 1 of a container, on this machine's own programs, network and engine.

It has the one right that mounting wants (CAP_SYS_ADMIN), and is not `--privileged`: /proc/sys and /sys stay read-only, so that nothing
which systemd does when it starts (sysctl.d, udev, modules) reaches this machine.
"""
import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Self

from docker.errors import APIError

from scenarios.machine import HOST, ROOT, Result, engine, until

INIT = Path("/usr/lib/systemd/systemd")
NO_CGROUP = 77
# Where this machine still has cgroup version 1, systemd gets version 2 all the same, from its own cgroup downwards.
ENTRY = f"mount -t cgroup2 none /sys/fs/cgroup || exit {NO_CGROUP}; exec {INIT}"
COPIED = ("etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/ld.so.cache", "etc/alternatives")
ZONE = "Pacific/Apia"  # far from UTC, and another day for half of it
READY = ("running", "degraded")


class Lacking(Exception):
    """Why no systemd can run here."""


class Host:
    """`folder`, read and written, is at the same place in there, and what the commands of a checkout need, read-only. `env` is what its
    PID 1 is started with, and no service of it may see. Raises Lacking."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder, self.env, self.needed, self.docker = folder, env, _needed(), engine()

    def __enter__(self) -> Self:
        if os.geteuid():
            raise Lacking("only root may install units")
        if not INIT.exists():
            raise Lacking(f"this machine has no {INIT}: apt-get install systemd")
        self.image = self.docker.api.import_image_from_data(_root(), changes=[f"LABEL keel.test={self.folder.name}"]).split('"')[3]
        self.container = None
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        options = {"entrypoint": ["/bin/sh", "-c", ENTRY], "cap_add": ["SYS_ADMIN"], "cgroupns": "private", "network_mode": "host",
                   "security_opt": ["seccomp=unconfined", "apparmor=unconfined"], "tmpfs": {"/run": "", "/tmp": "exec"},
                   "volumes": [f"{self.folder}:{self.folder}", *(f"{p}:{p}:ro" for p in self.needed)],
                   "environment": {"container": "docker", **self.env}}
        self.container = self.docker.containers.create(self.image, **options)
        try:
            self.container.start()
        except APIError as e:
            raise Lacking(f"the engine starts no container that may mount: {e.explanation}") from None

        def up() -> bool:
            self.container.reload()
            return self.container.status != "running" or self.run("systemctl", "is-system-running").stdout.strip() in READY
        until(up, 60)
        code = self.container.attrs["State"]["ExitCode"]
        if code == NO_CGROUP:
            raise Lacking("a container may not mount cgroup2 here: " + self.container.logs().decode(errors="replace").strip())
        assert self.container.status == "running", f"systemd ended with {code}: {self.container.logs().decode(errors='replace')}"

    def __exit__(self, *_: object) -> None:
        if self.container:
            self.container.remove(force=True, v=True)
        self.docker.images.remove(self.image, force=True)

    def run(self, *argv: str) -> Result:
        """Run a command in there, in the folder, as root."""
        done = self.container.exec_run(list(argv), workdir=str(self.folder), demux=True)
        out, err = ((text or b"").decode(errors="replace") for text in done.output)
        return Result(list(argv), done.exit_code, out, err)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).well().stdout.strip()

    def cursor(self) -> str:
        """Where the journal ends."""
        return self.run("journalctl", "-q", "-n", "0", "--show-cursor").well().stdout.partition("cursor: ")[2].strip()

    def journal(self, unit: str, cursor: str) -> str:
        """What a unit, and systemd about it, has said since."""
        self.run("journalctl", "--sync").well()
        return self.run("journalctl", "-q", "--no-pager", "-o", "cat", "-u", unit, f"--after-cursor={cursor}").well().stdout


def _needed() -> list[Path]:
    """The programs of this machine, this checkout's Python packages, the engine's clients and its socket."""
    address = os.environ.get("DOCKER_HOST") or HOST.get("DOCKER_HOST") or "unix:///run/docker.sock"
    if not (socket := address.removeprefix("unix://")).startswith("/"):
        raise Lacking(f"the engine at {address} is not of this machine")
    kits = [Path(HOST[name]).parent for name in ("KEEL_TOOLS", "DOCKER_CONFIG") if name in HOST]
    images = [ROOT / HOST["KEEL_IMAGES"]] if "KEEL_IMAGES" in HOST else []
    return sorted({Path("/usr"), Path(sys.base_prefix), ROOT, Path(socket), *kits, *images})


def _root() -> bytes:
    """A root file system without a program: links into /usr, the accounts of this machine, a time zone of its own. It has a name already,
    for a first boot would enable whatever the packages of this machine want to be enabled."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("etc", "etc/systemd", "etc/systemd/system", "var", "usr", "root"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        links = {d: f"usr/{d}" for d in ("bin", "sbin", "lib", "lib64") if Path(f"/usr/{d}").exists()}
        for name, target in {**links, "var/run": "/run", "etc/localtime": f"/usr/share/zoneinfo/{ZONE}"}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
        entry, text = tarfile.TarInfo("etc/machine-id"), os.urandom(16).hex().encode() + b"\n"
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
        for name in COPIED:
            if Path("/", name).exists():
                tar.add(Path("/", name), name)
    return file.getvalue()
