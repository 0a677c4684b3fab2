"""PgBouncer between the application and PostgreSQL: requests work through it, and a deploy fails none."""
import pytest

from scenarios import images
from scenarios.conftest import SHORT
from scenarios.platform import Platform

PEERS = "select distinct host(client_addr) from pg_stat_activity where client_addr is not null and pid <> pg_backend_pid()"


def peers(platform: Platform) -> set[str]:
    """The addresses that PostgreSQL's clients come from."""
    code, said = platform.service("postgres").exec_run(["psql", "-qAt", "-U", "events", "-c", PEERS, "events"])
    assert code == 0, said
    return set(said.decode().split())


def address(platform: Platform, role: str) -> str:
    return str(platform.service(role).attrs["NetworkSettings"]["Networks"][f"keel-{platform.name}_data"]["IPAddress"])


@pytest.mark.timeout(240)
def test_a_deploy_through_pgbouncer() -> None:
    with Platform("nginx", **SHORT, KEEL_PGBOUNCER="on") as platform:
        platform.up()
        first = platform.deploy(images.good()).well().stdout.strip()
        with platform.unharmed(get_path=("/version", "/events")) as load:
            second = platform.deploy(images.other()).well().stdout.strip()
            load.until(lambda now: now.answers(second) > 20)
            assert peers(platform) == {address(platform, "pgbouncer")}
        assert load.account and {first, second} <= set(load.account.releases)
        # the control: without it the application's own address is what PostgreSQL sees
        platform.set(KEEL_PGBOUNCER="off")
        platform.deploy(images.good()).well()
        assert address(platform, "app") in peers(platform)
