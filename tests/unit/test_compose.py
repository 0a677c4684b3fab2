"""The Compose files and their builders: argv as lists, and the files as the real `docker compose config` understands them."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel import compose, schema, settings
from keel.settings import ROOT, Settings
from keel.stop import Stop

ENVS = ("development", "staging", "production")
RELEASE = {"KEEL_IMAGE": "events:1", "KEEL_RELEASE": "r1", "KEEL_COLOUR": "blue"}
VARIABLES = schema.load(ROOT / "compose" / "example.env")
FILES = sorted((ROOT / "compose").glob("*.yml"))
WELL = {"KEEL_DOMAIN": "localhost", "POSTGRES_PASSWORD": "p", "REDIS_PASSWORD": "r"}


def made(env: str = "staging", **values: str) -> Settings:
    return Settings(env, {**WELL, **values}, {}, VARIABLES)


def prefix(project: str, *files: str) -> list[str]:
    return ["docker", "compose", "--progress=quiet", "--project-directory", str(ROOT), "-p", project,
            *(word for name in files for word in ("-f", f"{ROOT}/compose/{name}.yml"))]


def test_prefixes():
    s = made()
    assert compose.base(s) == prefix("keel-staging", "base")
    assert compose.colour(s, "green") == prefix("keel-staging-green", "app", "staging")
    assert compose.dev(made("development")) == [*prefix("keel-development-dev", "app", "development"), "--profile", "dev"]


def test_build_dev(tmp_path: Path):
    (tmp_path / "pins.env").write_text("KEEL_IMAGE_NODE=node:24\n")
    s = made("development", KEEL_IMAGES=str(tmp_path / "pins.env"))
    assert compose.build_dev(s) == ["docker", "build", "--target", "dev", "--build-arg", "NODE_IMAGE=node:24",
                                    "--tag", "keel-development-dev", f"{ROOT}/examples/events"]


def test_environment_is_complete_and_absolute():
    env = compose.environment(made(KEEL_STATE="var", KEEL_PGBOUNCER="on", KEEL_PROXY="caddy", KEEL_REDIS_MEMORY="100m"), **RELEASE)
    assert env["KEEL_STATE"] == f"{ROOT}/var"
    assert env["KEEL_APP_DIR"] == f"{ROOT}/examples/events"
    assert env["COMPOSE_PROFILES"] == "caddy,pgbouncer"
    assert env["KEEL_PGHOST"] == "pgbouncer"
    assert env["KEEL_REDIS_MAXMEMORY"] == str(60 << 20)
    assert env["COMPOSE_DISABLE_ENV_FILE"] == "1"
    assert "DOCKER_HOST" not in env, "an empty one would hide the default"
    wanted = {name for file in FILES for name in re.findall(r"(?<!\$)\$\{(\w+)", file.read_text())}
    assert wanted <= set(env)


def test_environment_extra_wins_and_faults_stop():
    assert compose.environment(made(KEEL_PGBOUNCER="on"), KEEL_PGHOST="postgres")["KEEL_PGHOST"] == "postgres"
    with pytest.raises(Stop, match="KEEL_REPLICAS"):
        compose.environment(made(KEEL_REPLICAS="two"))
    with pytest.raises(Stop, match="POSTGRES_PASSWORD"):
        compose.environment(made(POSTGRES_PASSWORD="CHANGE_ME"))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(lambda t: "CHANGE_ME" not in t))
def test_redis_address_carries_any_password(password: str):
    parts = urlsplit(compose.environment(made(REDIS_PASSWORD=password))["REDIS_URL"])
    assert unquote(parts.password or "") == password
    assert (parts.hostname, parts.port) == ("redis", 6379)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_every_variable_fails_loudly_when_unset(file: Path):
    used = re.findall(r"(?<!\$)\$(?!\$)(\w+|\{[^}]*\})", file.read_text())
    assert [word for word in used if not re.fullmatch(r"\{\w+:?\?\}", word)] == []


def test_unlisted_names_what_app_yml_forgets():
    assert compose.unlisted(made()) == []
    more = {**VARIABLES, "STRIPE_KEY": schema.Variable("STRIPE_KEY", "text", "", False, True, True)}
    assert compose.unlisted(Settings("staging", WELL, {}, more)) == ["STRIPE_KEY"]


def test_prepare_makes_the_folders_that_are_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    s = made(KEEL_STATE=str(tmp_path / "state"))
    for _ in range(2):  # safe to repeat
        compose.prepare(s)
    modes = {str(p.relative_to(tmp_path)): p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert {"secrets": 0o700, "secrets/tls": 0o700, "secrets/tls/staging": 0o755, "secrets/acme/staging": 0o700,
            "state/staging/proxy": 0o755}.items() <= modes.items()
    uid, _ = compose.proxy_user(s)
    assert uid == (os.geteuid() or compose.PROXY_USER)
    assert (tmp_path / "state/staging/proxy").stat().st_uid == (tmp_path / "secrets/acme/staging").stat().st_uid == uid


def test_prepare_of_a_place_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    (tmp_path / "state").write_text("a file")
    with pytest.raises(Stop, match="state") as e:
        compose.prepare(made(KEEL_STATE=str(tmp_path / "state")))
    assert e.value.code == 78


# --- as Compose itself reads them ---

@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch):
    """The settings of an environment as on this host; what gather puts into the process is taken back afterwards."""
    for name in ("PATH", "DOCKER_HOST", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not os.environ[name]:
            monkeypatch.delenv(name)

    def gather(env: str) -> Settings:
        monkeypatch.setenv("KEEL_ENV", env)
        s = compose.rehearsal(settings.gather())
        if shutil.which("docker") is None or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
            pytest.skip("docker compose is not on this host: make setup")
        return s

    return gather


def config(s: Settings, argv: list[str], **extra: str) -> dict:
    env = {**os.environ, **compose.environment(s, **{**RELEASE, "COMPOSE_PROFILES": "*", **extra})}
    done = subprocess.run([*argv, "config", "--format", "json"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize("env", ENVS)
def test_config_says_nothing(gathered, env: str):
    assert compose.faults(gathered(env)) == []


def test_faults_shows_warnings_and_errors(gathered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    s = gathered("staging")
    shutil.copytree(ROOT / "compose", tmp_path / "compose")
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    (tmp_path / "compose" / "staging.yml").write_text("services:\n  app:\n    hostname: ${KEEL_TYPO}\n")
    with open(tmp_path / "compose" / "base.yml", "a") as f:
        f.write("  more: ${KEEL_MISSING:?}\n")
    found = "\n".join(compose.faults(s))
    assert 'staging.yml: ' in found and 'The \\"KEEL_TYPO\\" variable is not set' in found
    assert "base.yml: " in found and "KEEL_MISSING" in found


@pytest.mark.parametrize("env", ENVS)
def test_every_service_is_hardened(gathered, env: str):
    s = gathered(env)
    base, blue = config(s, compose.base(s)), config(s, compose.colour(s, "blue"))
    assert set(base["services"]) == {"postgres", "redis", "pgbouncer", "nginx", "caddy"}
    for name, it in {**base["services"], **blue["services"]}.items():
        assert it["cap_drop"] == ["ALL"], name
        assert it.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else []), name
        assert it["security_opt"] == ["no-new-privileges:true"], name
        # A release may not come back by itself before it serves; swap-upstream gives it unless-stopped.
        assert it["restart"] == ("unless-stopped" if name in base["services"] else "no"), name
        assert it["init"] is True, name
        assert it.get("read_only", False) is (name != "app-dev"), name
        assert it["logging"]["driver"] == "json-file" and it["logging"]["options"]["max-size"], name
        assert "stop_grace_period" in it and "container_name" not in it, name
        assert ("ports" in it) is (name in ("nginx", "caddy", "app-dev")), name
        assert it["labels"]["keel.env"] == env, name
        if name in base["services"]:
            assert {"start_period", "start_interval", "test"} <= set(it["healthcheck"]), name
            assert int(it["mem_limit"]) > 0 and it["pids_limit"] > 0, name
            assert it["user"].partition(":")[0] not in ("", "0", "root"), name
            assert set(it["networks"]) == ({"edge"} if name in ("nginx", "caddy") else {"data"}), name
        else:
            assert {"memory", "pids"} <= set(it["deploy"]["resources"]["limits"]), name
    for name in ("nginx", "caddy"):
        for mount in base["services"][name]["volumes"]:
            assert mount["bind"] == {"create_host_path": False}
            assert not mount["source"].endswith((".conf", ".pem", ".html", "file")), "a folder, never a single file"
        assert {p["target"] for p in base["services"][name]["ports"]} == {8080, 8443}


def test_a_colour_is_a_project_with_its_alias(gathered):
    s = gathered("production")
    app = config(s, compose.colour(s, "blue"))["services"]["app"]
    assert app["networks"]["edge"]["aliases"] == ["app-blue"]
    assert app["labels"] == {"keel.env": "production", "keel.role": "app", "keel.colour": "blue", "keel.release": "r1"}
    assert app["image"] == "events:1" and "healthcheck" not in app and "user" not in app
    assert app["deploy"]["replicas"] == 2
    flagged = {name for name, v in VARIABLES.items() if v.app}
    fixed = {"NODE_ENV", "PORT", "KEEL_RELEASE", "KEEL_COLOUR", "PGHOST", "PGPORT", "PGPASSWORD", "REDIS_URL"}
    assert set(app["environment"]) == flagged | fixed


def test_no_proxy_finds_the_development_server(gathered):
    s = gathered("development")
    dev = config(s, compose.dev(s), KEEL_COLOUR="dev", KEEL_RELEASE="dev", KEEL_IMAGE="none")["services"]["app-dev"]
    assert set(dev["networks"]) == {"edge", "data"} and not any((n or {}).get("aliases") for n in dev["networks"].values())
    assert [(p["host_ip"], p["published"]) for p in dev["ports"]] == [("127.0.0.1", "3000")]
    assert dev["labels"]["keel.role"] == "app-dev"


def test_two_environments_share_nothing(gathered):
    def names(env: str) -> set[str]:
        s = gathered(env)
        found = config(s, compose.base(s))
        proxies = [found["services"][name] for name in ("nginx", "caddy")]
        return ({found["name"]} | {n["name"] for kind in ("networks", "volumes") for n in found[kind].values()}
                | {m["source"] for p in proxies for m in p["volumes"] if not m["source"].startswith(f"{ROOT}/proxy/")}
                | {p["published"] for proxy in proxies for p in proxy["ports"]})

    seen = [names(env) for env in ENVS]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert len(seen[0]) >= 10


@pytest.mark.parametrize("proxy", ["nginx", "caddy"])
def test_one_proxy_at_a_time(gathered, proxy: str):
    s = gathered("staging")
    s = Settings(s.env, {**s.values, "KEEL_PROXY": proxy, "KEEL_PGBOUNCER": "off"}, {}, s.variables)
    profile = compose.environment(s)["COMPOSE_PROFILES"]
    assert set(config(s, compose.base(s), COMPOSE_PROFILES=profile)["services"]) == {"postgres", "redis", proxy}


def test_a_stray_env_file_changes_nothing(gathered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    s = gathered("staging")
    shutil.copytree(ROOT / "compose", tmp_path / "compose")
    (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=stray\nKEEL_STRAY=1\n")
    monkeypatch.setattr(compose, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "compose" / "base.yml", "a") as f:
        f.write("x-stray: ${KEEL_STRAY:-unseen}\n")
    found = config(s, compose.base(s))
    assert found["x-stray"] == "unseen" and found["name"] == "keel-staging"
