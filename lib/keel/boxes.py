"""Containers that we make ourselves for a while: with no rights but their user's, and gone afterwards."""
from typing import Any

from keel.engine import client, reachable
from keel.stop import UNAVAILABLE, Stop


def create(name: str, image: str, labels: dict[str, str], binds: list[str], **more: Any) -> str:
    """Start a container with no rights but its user's; its id. `more`: user, entrypoint, command, environment, network (none: not even a
    loopback to elsewhere), volumes (paths that get an empty volume), memory (its limit in bytes; it does not swap). Where the host's
    memory runs out, the kernel ends what is in here before anything else. Raises Stop 69 when it does not start."""
    import docker.errors

    network, volumes, memory = more.pop("network", "none"), more.pop("volumes", []), more.pop("memory", None)
    with reachable():
        api = client()
        # Its log is what tells why something in it failed, whatever the engine does with logs by default.
        log = {"type": "json-file", "config": {"max-size": "10m"}}
        config = api.create_host_config(log_config=log, binds=binds, cap_drop=["ALL"], security_opt=["no-new-privileges:true"], init=True,
                                        network_mode=network, tmpfs={"/tmp": "mode=1777"}, read_only=True, mem_limit=memory,
                                        memswap_limit=memory, oom_score_adj=1000)
        made = str(api.create_container(image, name=name, labels=labels, host_config=config, volumes=volumes, **more)["Id"])
        try:
            api.start(made)
        except docker.errors.APIError as e:
            remove(made)
            raise Stop(f"{name}: {e.explanation}", UNAVAILABLE, "make doctor ENV=… says what is wrong with this host") from None
    return made


def remove(container: str) -> None:
    """Kill and remove a container that may be gone, with its nameless volumes."""
    import docker.errors

    with reachable():
        try:
            client().remove_container(container, force=True, v=True)
        except docker.errors.APIError as e:
            if e.status_code not in (404, 409):  # gone, or somebody removes it just now
                raise


def having(*labels: str) -> dict[str, dict[str, str]]:
    """The labels of every container, running or not, that has all of these (NAME or NAME=VALUE), by its id."""
    with reachable():
        return {str(c["Id"]): c["Labels"] for c in client().containers(all=True, filters={"label": list(labels)})}


def discard(label: str, value: str) -> None:
    """Kill and remove every container that has this label."""
    for container in having(f"{label}={value}"):
        remove(container)
