"""The image of the sample application: small, without what only a build needs, run by nobody special, and it says where it comes from."""
from dotenv import dotenv_values

from scenarios import images
from scenarios.machine import HOST, ROOT, engine

MOST = 60 << 20  # bytes above the base


def test_the_image_is_lean() -> None:
    pins = dotenv_values(ROOT / (HOST.get("KEEL_IMAGES") or "compose/images.env"), interpolate=False)
    docker = engine()
    app, base = docker.images.get(images.good().partition("@")[2]), docker.images.get(str(pins["KEEL_IMAGE_NODE"]))
    below, all_of_it = base.attrs["RootFS"]["Layers"], app.attrs["RootFS"]["Layers"]
    assert all_of_it[:len(below)] == below, "it stands on the pinned base"
    assert app.attrs["Size"] - base.attrs["Size"] <= MOST


def test_the_image_is_hardened_and_labelled() -> None:
    config = engine().images.get(images.good().partition("@")[2]).attrs["Config"]
    assert config["User"].partition(":")[0] not in ("", "0", "root")
    assert config["Cmd"][0] == "node" and config["Healthcheck"]["Test"][0] == "CMD"
    assert {f"org.opencontainers.image.{name}" for name in ("revision", "version", "created")} <= set(config["Labels"])


def test_the_image_has_nothing_that_only_a_build_needs() -> None:
    name = images.good().partition("@")[2]
    seen = engine().containers.run(name, ["sh", "-c", "ls -a /app /app/node_modules; ls /root/.npm 2>&1; find /app -name '*.ts' | head"],
                                   entrypoint="", remove=True).decode().split()
    assert "dist" in seen and "pg" in seen, "the control: what is run is there"
    assert not {"src", "test", "typescript", "eslint", ".npmrc", ".env", ".git"} & set(seen)
    assert not [word for word in seen if word.endswith(".ts") and not word.endswith(".d.ts")]
