from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.errors import PlanRefused
from images.recipe import Recipe
from images.steps.command import Materials, Strategy
from images.steps.units import engine_arguments, server_arguments, service_files, units

SHA = "a" * 64
S3 = [
    {"name": name, "url": f"s3://models/q/{name}", "sha256": SHA, "bytes": 9}
    for name in ("config.json", "m.safetensors")
]
READ_ONLY = "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --user 65534:65534"
RUN = "--rm --name goldenfleet-engine --network host --log-driver none"
VLLM = "vllm/vllm-openai@sha256:1d6866b87630d94f5e0cdae55ab5abb4ce0b03fcb84d9d10612f9d518d19d4fd"
TGI = (
    "ghcr.io/huggingface/text-generation-inference@sha256:"
    "e6b0af6e0bf65337b84a19f15d74660c7892192f555fb0b68d3f3d62bf0c1e9a"
)
LLAMA = "ghcr.io/ggml-org/llama.cpp@sha256:00bd6c289c590e576948cb3639b8195e4d3e6dd6ba1d761f0e2b871fcd4df24f"
WEIGHTS = "--volume /var/lib/goldenfleet/weights:/weights:ro"
LISTEN = "--host 127.0.0.1 --port 8000"
Lines = Callable[[Any], list[str]]

ENGINES: list[tuple[str, dict[str, Any], Strategy, str]] = [
    ("gateway-cpu", {}, "baked-root", ""),
    ("rehearsal", {}, "baked-root", ""),
    (
        "model-gpu-vllm",
        {},
        "baked-volume",
        (
            f"{RUN} --gpus all --ipc host {WEIGHTS} --volume /var/lib/goldenfleet/cache/vllm:/cache"
            f" --env HF_HUB_OFFLINE=1 --env VLLM_CACHE_ROOT=/cache --entrypoint vllm {VLLM}"
            f" serve /weights {LISTEN}"
            " --served-model-name qwen2.5-7b-instruct --max-num-seqs 64 --max-num-batched-tokens 8192"
            " --max-model-len 8192 --gpu-memory-utilization 0.9"
        ),
    ),
    (
        "model-gpu-vllm",
        {"weights": {"files": S3}, "compile_cache": [], "engine__options": {}},
        "s3-stream",
        (
            f"{RUN} --gpus all --ipc host {WEIGHTS} --env HF_HUB_OFFLINE=1 --entrypoint vllm {VLLM}"
            f" serve s3://models/q {LISTEN} --served-model-name qwen2.5-7b-instruct"
            " --load-format runai_streamer"
        ),
    ),
    (
        "model-gpu-vllm",
        {"compile_cache": [], "engine__kind": "sglang", "engine__options": {"context_tokens": 8192}},
        "baked-root",
        (
            f"{RUN} --gpus all --ipc host {WEIGHTS} --env HF_HUB_OFFLINE=1 --entrypoint python3 {VLLM}"
            f" -m sglang.launch_server --model-path /weights {LISTEN}"
            " --served-model-name qwen2.5-7b-instruct --enable-metrics --context-length 8192"
        ),
    ),
    (
        "model-gpu-tgi",
        {},
        "baked-root",
        (
            f"{RUN} --gpus all --ipc host {WEIGHTS} --env HF_HUB_OFFLINE=1 --env ATTENTION=flashinfer {TGI}"
            " --model-id /weights --hostname 127.0.0.1 --port 8000 --max-batch-prefill-tokens 8192"
            " --max-total-tokens 8192 --max-input-tokens 8000 --cuda-memory-fraction 0.9"
        ),
    ),
    (
        "model-cpu-llama",
        {},
        "baked-root",
        (
            f"{RUN} {READ_ONLY} {WEIGHTS} {LLAMA} {LISTEN} -m /weights/Qwen2.5-0.5B-Instruct-Q4_K_M.gguf"
            " --alias qwen2.5-0.5b-instruct --metrics -ctk q8_0 -ctv q8_0 -fa on -np 8 -cb -c 32768"
        ),
    ),
]


@pytest.mark.parametrize(("name", "changes", "strategy", "wanted"), ENGINES)
def test_engine(
    make_recipe: Callable[..., Recipe], name: str, changes: dict[str, Any], strategy: Strategy, wanted: str
) -> None:
    """Each engine is started on loopback with its own flags, read-only weights and no needless rights."""
    assert " ".join(engine_arguments(make_recipe(name, **changes), strategy)) == wanted


def test_server(make_recipe: Callable[..., Recipe]) -> None:
    """Our server runs as nobody in a read-only container, with the embedded engine's weights."""
    start = f"--rm --name goldenfleet-server --network host --log-driver none {READ_ONLY}"
    settings = "--env-file /etc/goldenfleet/server.env --env-file /etc/goldenfleet/instance.env"
    mount = "--volume /var/lib/goldenfleet/weights/weights.npz:/opt/goldenfleet/server/engine/weights.npz:ro"
    gateway = server_arguments(make_recipe("gateway-cpu"))
    model = server_arguments(make_recipe("rehearsal"))
    assert " ".join(gateway) == f"{start} {settings} goldenfleet-server:local"
    assert " ".join(model) == f"{start} {settings} {mount} goldenfleet-server:local"


UNITS: list[tuple[str, Strategy | None, set[str]]] = [
    ("gateway-cpu", None, set()),
    ("rehearsal", "baked-root", {"readahead"}),
    ("model-cpu-llama", "baked-root", {"engine", "readahead"}),
    ("model-gpu-vllm", "baked-volume", {"engine", "readahead"}),
    ("model-gpu-vllm", "s3-nvme", {"engine", "weights"}),
    ("model-gpu-tgi", "baked-root", {"engine", "readahead"}),
]


@pytest.mark.parametrize(("name", "strategy", "more"), UNITS)
def test_units(
    make_recipe: Callable[..., Recipe],
    materials: Materials,
    lines: Lines,
    name: str,
    strategy: Strategy | None,
    more: set[str],
) -> None:
    """An image has the units that its role, engine and weights need, all of them enabled."""
    recipe = make_recipe(name)
    names = {f"goldenfleet-{unit}.service" for unit in ("firstboot", "logs", "server", *more)}
    assert set(service_files(recipe, strategy)) == names
    enable = lines(units(recipe, dataclasses.replace(materials, strategy=strategy)))[-1]
    assert set(enable.removeprefix("systemctl enable ").split()) == names


def test_nobody_is_asked(make_recipe: Callable[..., Recipe], materials: Materials, lines: Lines) -> None:
    """A first boot waits for no answer on the console, and enables nothing that was disabled."""
    made = lines(units(make_recipe("rehearsal"), materials))
    assert "systemctl --no-reload mask systemd-firstboot.service" in made
    assert any("00-goldenfleet.preset" in line for line in made)


@pytest.mark.parametrize(("name", "strategy", "more"), UNITS)
def test_units_are_sound(
    make_recipe: Callable[..., Recipe], tmp_path: Path, name: str, strategy: Strategy | None, more: set[str]
) -> None:
    """systemd itself finds nothing to complain of in them, and no placeholder is left."""
    files = service_files(make_recipe(name), strategy)
    for unit, text in files.items():
        assert not re.search(r"@[A-Z]+@", text)
        # Programs of the image are not here; systemd would miss them and say nothing else.
        (tmp_path / unit).write_text(re.sub(r"^(Exec\w+=-?)/\S+", r"\1/bin/true", text, flags=re.MULTILINE))
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    said = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            "--recursive-errors=no",
            "--man=no",
            *(str(tmp_path / unit) for unit in files),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system", "PATH": "/usr/bin:/bin"},
    )
    complaints = [line for line in said.stderr.splitlines() if "goldenfleet" in line]
    assert complaints == []


@pytest.mark.parametrize(
    ("name", "unit", "needs"),
    [
        ("model-gpu-vllm", "engine", "/var/lib/goldenfleet/weights"),
        ("model-gpu-vllm", "server", "/"),
        ("rehearsal", "server", "/var/lib/goldenfleet/weights"),
        ("gateway-cpu", "server", "/"),
    ],
)
def test_weights_are_mounted_before_they_are_read(
    make_recipe: Callable[..., Recipe], name: str, unit: str, needs: str
) -> None:
    """What reads weights waits for their volume, and does not start without it on an empty folder."""
    recipe = make_recipe(name)
    strategy: Strategy | None = "baked-volume" if recipe.weights is not None else None
    text = service_files(recipe, strategy)[f"goldenfleet-{unit}.service"]
    assert f"\nRequiresMountsFor={needs}\n" in text


def test_own_unit(make_recipe: Callable[..., Recipe]) -> None:
    """A recipe's own unit is a service among the others."""
    own = {"name": "warm.service", "description": "Warm up", "command": "/bin/warm 5%", "oneshot": True}
    text = service_files(make_recipe("rehearsal", startup=[own]), "baked-root")["warm.service"]
    assert "Type=oneshot" in text
    assert "ExecStart=/bin/warm 5%" in text
    assert "Restart" not in text


def test_special_characters_reach_docker(make_recipe: Callable[..., Recipe]) -> None:
    """What systemd would expand in a unit is written so that it does not."""
    unit = service_files(make_recipe("model-gpu-vllm", engine__model="a/b"), "baked-root")
    assert "--served-model-name a/b" in unit["goldenfleet-engine.service"]
    assert "${ROLE}" in unit["goldenfleet-server.service"]


def test_files_of_s3_stream_in_one_folder(make_recipe: Callable[..., Recipe]) -> None:
    """Weights that are streamed must lie in one folder: the engine is told a prefix."""
    apart = [S3[0], {**S3[1], "url": "s3://elsewhere/q/m.safetensors"}]
    with pytest.raises(PlanRefused, match="not all in one folder of one bucket"):
        engine_arguments(make_recipe("model-gpu-vllm", weights={"files": apart}), "s3-stream")


def test_environment(make_recipe: Callable[..., Recipe], materials: Materials) -> None:
    """The image says where the engine is; the tier's config in SSM need not."""
    written = {c.line.rpartition(" ")[2]: c.stdin for c in units(make_recipe("model-cpu-llama"), materials)}
    assert written["/etc/goldenfleet/server.env"] == (
        b"GOLDENFLEET_ADDRESS=0.0.0.0\nGOLDENFLEET_ENGINE=llama-server\n"
        b"GOLDENFLEET_ENGINE_URL=http://127.0.0.1:8000\n"
    )
    assert written["/etc/systemd/system-preset/00-goldenfleet.preset"].endswith(b"disable *\n")  # type: ignore[union-attr]
