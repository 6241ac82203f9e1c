"""What starts on a node: boot scripts and systemd units, from images/files with the recipe's values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from images.engines import ENGINES, environment, flags
from images.errors import PlanRefused
from images.recipe import Engine, Recipe, Unit, Weights
from images.steps.command import Command, Materials, Strategy
from images.steps.shell import CONFIG, SHARE, WEIGHTS, directory, quote, root, shipped, write
from images.steps.weights import BAKED, strategy_of

ENGINE_PORT = 8000
_SYSTEMD = "/etc/systemd/system"
# Programs of containers that would start something else, or a shell.
_ENTRYPOINTS = {"vllm": "vllm", "sglang": "python3"}
# The embedded engine reads its weights beside its code.
_EMBEDDED = "/opt/goldenfleet/server/engine"
_READ_ONLY = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108  of a container
_NOBODY = ("--user", "65534:65534")


def units(recipe: Recipe, materials: Materials) -> Iterator[Command]:
    strategy = strategy_of(recipe.weights, materials) if recipe.weights else None
    yield directory(CONFIG)
    yield write(f"{CONFIG}/server.env", _server_environment(recipe))
    yield write("/usr/local/sbin/goldenfleet-boot", shipped("goldenfleet-boot", ROLE=recipe.role), 0o755)
    # User data runs with a PATH that need not have sbin.
    yield root("ln -sf ../sbin/goldenfleet-boot /usr/local/bin/goldenfleet-boot", 60)
    for name, text in service_files(recipe, strategy).items():
        yield write(f"{_SYSTEMD}/{name}", text)
    yield from _scripts(recipe, strategy)
    yield write("/etc/systemd/system-preset/00-goldenfleet.preset", shipped("goldenfleet.preset"))
    # At the first boot of a machine without an id it would ask on the console, and wait for an answer.
    yield root("systemctl --no-reload mask systemd-firstboot.service", 60)
    names = " ".join(quote(name) for name in service_files(recipe, strategy))
    yield root(f"systemctl enable {names}", 60)


def service_files(recipe: Recipe, strategy: Strategy | None) -> dict[str, str]:
    """Unit name -> its text, for every unit that is enabled on the image."""
    files = {
        "goldenfleet-firstboot.service": shipped("goldenfleet-firstboot.service"),
        "goldenfleet-logs.service": shipped("goldenfleet-logs.service"),
        "goldenfleet-server.service": shipped(
            "goldenfleet-server.service",
            ARGUMENTS=_joined(server_arguments(recipe)),
            # The embedded engine reads its weights in our server's container.
            READS=WEIGHTS if recipe.engine is not None and recipe.engine.kind == "embedded" else "/",
        ),
    }
    if recipe.engine is not None and recipe.engine.container is not None:
        files["goldenfleet-engine.service"] = shipped(
            "goldenfleet-engine.service",
            KIND=recipe.engine.kind,
            WEIGHTS=WEIGHTS,
            ARGUMENTS=_joined(engine_arguments(recipe, strategy)),
        )
    if strategy in BAKED:
        files["goldenfleet-readahead.service"] = shipped("goldenfleet-readahead.service", WEIGHTS=WEIGHTS)
    if strategy == "s3-nvme":
        files["goldenfleet-weights.service"] = shipped("goldenfleet-weights.service")
    return {**files, **{unit.name: _own(unit) for unit in recipe.startup}}


def server_arguments(recipe: Recipe) -> list[str]:
    """Of `docker run`, up to the image."""
    settings = ("--env-file", f"{CONFIG}/server.env", "--env-file", f"{CONFIG}/instance.env")
    name = ("--rm", "--name", "goldenfleet-server", "--network", "host", "--log-driver", "none")
    mounts: list[str] = []
    if recipe.engine is not None and recipe.engine.kind == "embedded" and recipe.weights is not None:
        for file in recipe.weights.files:
            mounts += ["--volume", f"{WEIGHTS}/{file.name}:{_EMBEDDED}/{file.name}:ro"]
    return [*name, *_READ_ONLY, *_NOBODY, *settings, *mounts, recipe.server.container.name]


def engine_arguments(recipe: Recipe, strategy: Strategy | None) -> list[str]:
    """Of `docker run`, to the end. The engine listens on loopback: only our server is reached."""
    engine, weights = recipe.engine, recipe.weights
    if engine is None or engine.container is None or weights is None:
        return []
    run = ["--rm", "--name", "goldenfleet-engine", "--network", "host", "--log-driver", "none"]
    if recipe.gpu:
        # Tensor-parallel workers pass tensors through shared memory.
        run += ["--gpus", "all", "--ipc", "host"]
    else:
        run += [*_READ_ONLY, *_NOBODY]
    run += ["--volume", f"{WEIGHTS}:/weights:ro"]
    for cache in recipe.compile_cache:
        run += ["--volume", f"{cache}:/cache"]
    for name, value in _engine_environment(recipe, engine).items():
        run += ["--env", f"{name}={value}"]
    command = _engine_command(engine, weights, strategy)
    entrypoint = _ENTRYPOINTS.get(engine.kind)
    run += [] if entrypoint is None else ["--entrypoint", entrypoint]
    return [*run, engine.container.name, *command, *flags(engine.kind, engine.options)]


def _engine_command(engine: Engine, weights: Weights, strategy: Strategy | None) -> list[str]:
    source = _streamed(weights) if strategy == "s3-stream" else "/weights"
    if engine.kind == "vllm":
        load = [] if strategy != "s3-stream" else ["--load-format", "runai_streamer"]
        served = ["--served-model-name", engine.model]
        return ["serve", source, "--host", "127.0.0.1", "--port", str(ENGINE_PORT), *served, *load]
    if engine.kind == "tgi":
        return ["--model-id", source, "--hostname", "127.0.0.1", "--port", str(ENGINE_PORT)]
    listen = ["--host", "127.0.0.1", "--port", str(ENGINE_PORT)]
    # Of these two, metrics must be asked for: our server reads queue and load there.
    if engine.kind == "sglang":
        served = ["--served-model-name", engine.model, "--enable-metrics"]
        return ["-m", "sglang.launch_server", "--model-path", source, *listen, *served]
    model = f"/weights/{weights.files[0].name}"
    return [*listen, "-m", model, "--alias", engine.model, "--metrics"]


def _streamed(weights: Weights) -> str:
    """The folder in S3 that holds all files. Raises PlanRefused."""
    folders = {str(PurePosixPath(urlsplit(str(file.url)).path).parent) for file in weights.files}
    buckets = {
        urlsplit(str(file.url)).netloc for file in weights.files if (file.url or "").startswith("s3://")
    }
    if len(folders) != 1 or len(buckets) != 1:
        raise PlanRefused(
            "weights.strategy is s3-stream, and the files are not all in one folder of one bucket",
            "put them there and give their s3:// URLs, or choose another strategy",
        )
    return f"s3://{buckets.pop()}{folders.pop()}"


def _engine_environment(recipe: Recipe, engine: Engine) -> Mapping[str, str]:
    cached = {"VLLM_CACHE_ROOT": "/cache"} if recipe.compile_cache else {}
    # What is not on the image is not fetched behind its back.
    offline = {"HF_HUB_OFFLINE": "1"} if ENGINES[engine.kind].gpu else {}
    return {**offline, **cached, **environment(engine.kind, engine.options)}


def _server_environment(recipe: Recipe) -> str:
    """The image's own truth; instance.env and then the tier's config in SSM fill in the rest."""
    # Security groups say who comes in.
    settings = {"GOLDENFLEET_ADDRESS": "0.0.0.0"}
    if recipe.engine is not None:
        settings["GOLDENFLEET_ENGINE"] = recipe.engine.kind
        settings["GOLDENFLEET_ENGINE_URL"] = f"http://127.0.0.1:{ENGINE_PORT}"
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _scripts(recipe: Recipe, strategy: Strategy | None) -> Iterator[Command]:
    logs = shipped("goldenfleet-logs", IMAGE=recipe.server.container.name)
    yield write("/usr/local/sbin/goldenfleet-logs", logs, 0o755)
    if strategy in BAKED:
        yield write("/usr/local/sbin/goldenfleet-readahead", shipped("goldenfleet-readahead"), 0o755)
    if strategy == "s3-nvme":
        script = shipped("goldenfleet-weights", WEIGHTS=WEIGHTS, IMAGE=recipe.server.container.name)
        yield write("/usr/local/sbin/goldenfleet-weights", script, 0o755)
        yield write("/usr/local/share/goldenfleet/fetch_weights.py", shipped("fetch_weights.py"))
    for cache in recipe.compile_cache:
        yield directory(cache)


def _own(unit: Unit) -> str:
    after = " ".join(("docker.service", *unit.after))
    kind = "oneshot" if unit.oneshot else "exec"
    restart = "" if unit.oneshot else "Restart=always\nRestartSec=1\n"
    return (
        f"[Unit]\nDescription={unit.description}\nAfter={after}\n\n"
        f"[Service]\nType={kind}\nExecStart={unit.command}\n{restart}\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def _joined(arguments: list[str]) -> str:
    """On a unit's command line: systemd reads quotes as a shell does, and takes $ and % for its own."""
    return " ".join(quote(argument).replace("%", "%%").replace("$", "$$") for argument in arguments)


def image_record(manifest: Mapping[str, object], sbom: bytes) -> Iterator[Command]:
    """What the image is, on the image itself."""
    yield write(f"{CONFIG}/image.json", json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    yield write(f"{SHARE}/sbom.cdx.json", sbom)
