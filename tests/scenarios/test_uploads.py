"""More uploads at once than the proxy has memory: some of them fail, and nobody else notices."""
import contextlib
import http.client
import select
import ssl

import pytest
from docker.models.containers import Container

from scenarios import images
from scenarios.conftest import SHORT
from scenarios.machine import until
from scenarios.platform import Platform

BODY, UPLOADS = 8 << 20, 12  # 96 MiB, where the proxy has 64


def connected(platform: Platform) -> http.client.HTTPSConnection:
    """A connection of a visitor, which goes on until a worker that has it is killed."""
    context = ssl.create_default_context(cafile=platform.cafile)
    context.check_hostname = False
    return http.client.HTTPSConnection("127.0.0.1", platform.port, context=context, timeout=10)


def status(connection: http.client.HTTPSConnection, platform: Platform) -> int:
    connection.request("GET", "/version", headers={"Host": platform.domain})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def upload(platform: Platform) -> http.client.HTTPSConnection:
    """All of a body but its last byte, so that the proxy keeps what it has; it may hang up before."""
    one = connected(platform)
    one.putrequest("POST", "/registrations", skip_host=True)
    for name, value in {"Host": platform.domain, "Content-Type": "application/json", "Content-Length": str(BODY)}.items():
        one.putheader(name, value)
    one.endheaders()
    with contextlib.suppress(OSError):
        one.send(b" " * (BODY - 1))
    return one


def answers(uploads: list[http.client.HTTPSConnection]) -> set[int]:
    """The statuses of those that are answered already; of the others only the session tickets of TLS can be read."""
    found = set()
    for one in uploads:
        while one.sock and select.select([one.sock], [], [], 0)[0]:
            one.sock.settimeout(0.2)
            try:
                found.add(one.getresponse().status)
            except (TimeoutError, ConnectionError, http.client.HTTPException):
                break
    return found


def killed(proxy: Container) -> int:
    """How many processes of the container the kernel has killed for want of memory."""
    code, said = proxy.exec_run(["cat", "/sys/fs/cgroup/memory.events"])
    if code:
        code, said = proxy.exec_run(["cat", "/sys/fs/cgroup/memory/memory.oom_control"])  # cgroup v1
    assert code == 0, said
    return int(dict(line.split() for line in said.decode().splitlines())["oom_kill"])


@pytest.mark.timeout(180)
def test_more_uploads_than_memory() -> None:
    with Platform("nginx", **SHORT, KEEL_PROXY_MEMORY="64m", KEEL_BODY_LIMIT="16m") as platform, contextlib.ExitStack() as stack:
        platform.up()
        platform.deploy(images.good()).well()
        proxy = platform.service("proxy")
        visitors = [stack.enter_context(contextlib.closing(connected(platform))) for _ in range(8)]
        assert [status(one, platform) for one in visitors] == [200] * 8
        uploads = [stack.enter_context(contextlib.closing(upload(platform))) for _ in range(UPLOADS)]
        assert 500 in until(lambda: answers(uploads))  # the control: there was no room for all of them
        assert killed(proxy) == 0
        assert [status(one, platform) for one in visitors] == [200] * 8  # on the connections of before
