"""An engine that stores images in containerd, as a new Docker 29 does: it knows an image by its manifest's digest."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from scenarios.machine import HOST, engine, until
from scenarios.platform import Platform

pytestmark = pytest.mark.timeout(120)
KIT = Path(HOST["KEEL_TOOLS"]).parent / "usr" if "KEEL_TOOLS" in HOST else Path("/usr")  # which tests/host/engine fetched
PATH = os.pathsep.join([str(KIT / "bin"), str(KIT / "sbin"), os.environ["PATH"]])

# What `files-backup --images` does, apart from the stores: saved on this engine, looked through, loaded into the other.
SAVE = """
import sys
from keel import image_files
handle, file = sys.argv[1:]
wanted = {handle: handle.partition("@")[2]}
with open(file, "wb") as f:
    f.writelines(image_files.saved(wanted))
with open(file, "rb") as f:
    assert image_files.check(iter(lambda: f.read(1 << 20), b""), wanted) == []
"""
LOAD = """
import sys
from pathlib import Path
from keel import image_files
handle, file = sys.argv[1:]
image_files.load(Path(file), {handle: handle.partition("@")[2]})
"""


@pytest.fixture
def other() -> Iterator[str]:
    """The address of such an engine. In a network namespace of its own: an engine that is to have no bridge removes docker0, whose ever."""
    if os.getuid() or not shutil.which("dockerd", path=PATH):
        pytest.skip("a second engine can be started only as root, where dockerd is")
    folder = Path(tempfile.mkdtemp(prefix="keel-engine-"))
    address = f"unix://{folder}/sock"
    (folder / "daemon.json").write_text(json.dumps({
        "data-root": str(folder / "data"), "exec-root": str(folder / "run"), "pidfile": str(folder / "pid"), "hosts": [address],
        "features": {"containerd-snapshotter": True}, "bridge": "none", "iptables": False, "ip6tables": False}))
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(["unshare", "--net", "dockerd", "--config-file", folder / "daemon.json"],
                                  env={**os.environ, "PATH": PATH}, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: daemon.poll() is not None or answers(address))
        assert daemon.poll() is None, (folder / "log").read_text()[-2000:]
        yield address
    finally:
        daemon.send_signal(signal.SIGTERM)  # which ends its containerd too
        daemon.wait(30)
        shutil.rmtree(folder)


def answers(address: str) -> bool:
    try:
        return bool(docker.DockerClient(base_url=address, version="auto").ping())
    except (docker.errors.DockerException, OSError):
        return False


def test_images_stored_in_containerd(other: str) -> None:
    there, here = docker.DockerClient(base_url=other, version="auto"), engine()
    # the control: it is that kind of store
    assert there.info()["DriverStatus"] == [["driver-type", "io.containerd.snapshotter.v1"]]
    with Platform("nginx") as platform:
        folder, file = platform.root / "app", str(platform.root / "images.tar")
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM scratch\nCOPY Dockerfile /\nLABEL of={platform.name}\n")
        platform.set(KEEL_APP_DIR=str(folder), KEEL_APP_NAME=platform.name, KEEL_KEEP_IMAGES="0")

        def python(script: str, *args: str, **env: str) -> None:
            argv = [str(platform.root / ".venv/bin/python"), "-c", script, *args]
            platform.run(argv, PYTHONPATH=str(platform.root / "lib"), **env).well()

        built = platform.run(["build-image"], DOCKER_HOST=other).well().stdout.strip()
        known = there.images.get(f"{platform.name}:unversioned").id
        assert built == f"{platform.name}@{known}"
        try:
            python(SAVE, built, file, DOCKER_HOST=other)
            python(LOAD, built, file)
            found = here.images.get(f"{platform.name}:unversioned")
            assert found.labels["of"] == platform.name
            python(SAVE, f"{platform.name}@{found.id}", file)
            used = there.containers.create(known, ["none"], network_mode="none")
            assert platform.run(["prune-images"], DOCKER_HOST=other).well().stdout == ""
            used.remove()
            assert platform.run(["prune-images"], DOCKER_HOST=other).well().stdout.split() == [known]
            assert not there.images.list(all=True)
            python(LOAD, f"{platform.name}@{found.id}", file, DOCKER_HOST=other)
            assert there.images.get(f"{platform.name}:unversioned").labels["of"] == platform.name
        finally:
            for image in here.images.list(platform.name):
                here.images.remove(image.id, force=True)
