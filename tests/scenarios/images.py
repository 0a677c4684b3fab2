"""The images that scenarios deploy: the sample application, built once for a test run, and variants that differ in one thing."""
import functools
import secrets
import subprocess

from dotenv import dotenv_values

from scenarios.machine import HOST, ROOT, engine, environ
from scenarios.platform import Platform

NAME = f"keel-scenario-{secrets.token_hex(3)}"  # a name of its own: no other environment or test run prunes what has it


@functools.cache
def good() -> str:
    """The handle of the sample application, built by build-image."""
    with Platform("nginx", KEEL_APP_NAME=NAME) as platform:
        return kept(platform.run(["build-image"], seconds=600).well().stdout.strip().partition("@")[2])


@functools.cache
def other(number: int = 1) -> str:
    """The same application with another revision: another image."""
    return variant(f"FROM {tag(good())}\nLABEL org.opencontainers.image.revision=other-{number}\n")


@functools.cache
def unchecked() -> str:
    """The same application without HEALTHCHECK."""
    node = dotenv_values(ROOT / (HOST.get("KEEL_IMAGES") or "compose/images.env"), interpolate=False)["KEEL_IMAGE_NODE"]
    return variant(f"FROM {tag(good())} AS app\nFROM {node}\nWORKDIR /app\nCOPY --from=app /app ./\nUSER 1000:1000\n"
                   'CMD ["node", "dist/main.js"]\n')


@functools.cache
def switched_off() -> str:
    """The same application with HEALTHCHECK NONE."""
    return variant(f"FROM {tag(good())}\nHEALTHCHECK NONE\n")


def variant(dockerfile: str) -> str:
    """Build an image from a Dockerfile without context; its handle."""
    new = f"{NAME}:new"
    done = subprocess.run(["docker", "buildx", "build", "--quiet", "--provenance=false", "--load", f"--tag={new}", "-"], input=dockerfile,
                          check=False, env=environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    handle = kept(engine().api.inspect_image(new)["Id"])  # where containerd stores images, build says another digest
    engine().api.remove_image(new)
    return handle


def kept(image_id: str) -> str:
    """Give an image a tag that no other build takes away; its handle."""
    engine().api.tag(image_id, NAME, tag(image_id).partition(":")[2])
    return f"{NAME}@{image_id}"


def tag(handle: str) -> str:
    """The name by which a Dockerfile finds an image that never was in a registry."""
    return f"{NAME}:{handle.partition('sha256:')[2][:12]}"


def remove() -> None:
    """Take all tags of this run away; what nobody else uses goes with them."""
    api = engine().api
    for image in api.images(NAME):
        for name in image["RepoTags"] or [image["Id"]]:
            if name.startswith(NAME):
                api.remove_image(name, force=True)
