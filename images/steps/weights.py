"""Bring the weights that are baked: resumed after a cut, checked by sha256 before they get their name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from images.errors import PlanRefused
from images.recipe import Recipe, WeightFile, Weights
from images.steps.command import Action, Command, Materials, Strategy, Upload
from images.steps.shell import SHARE, WEIGHTS, directory, quote, root, write

BAKED: tuple[Strategy, ...] = ("baked-root", "baked-volume")
_LABEL = "gf-weights"
# A fetch that gets less than 5 MB/s is given up, and resumed.
_BYTES_PER_S = 5_000_000


def weights(recipe: Recipe, materials: Materials) -> Iterator[Action]:
    if recipe.weights is None:
        return
    strategy = strategy_of(recipe.weights, materials)
    yield directory(WEIGHTS)
    yield write(f"{SHARE}/weights.json", _record(recipe.weights))
    if strategy not in BAKED:
        return
    if strategy == "baked-volume":
        yield from _volume(materials)
    for file in recipe.weights.files:
        yield from _fetch(recipe, recipe.weights, file, materials)
    if strategy == "baked-volume":
        yield root(f"sync && mount -o remount,ro {WEIGHTS}", 300)


def strategy_of(weights: Weights, materials: Materials) -> Strategy:
    """Raises PlanRefused when the recipe leaves it to the plan, and no plan was made."""
    strategy = materials.strategy or weights.strategy
    if strategy == "auto":
        raise PlanRefused(
            "weights.strategy is auto, and no plan has picked one", "name one of the four strategies"
        )
    return strategy


def hub_url(weights: Weights, file: WeightFile) -> str:
    return f"https://huggingface.co/{weights.hub}/resolve/{weights.revision}/{file.name}"


def _fetch(recipe: Recipe, weights: Weights, file: WeightFile, materials: Materials) -> Iterator[Action]:
    if file.sha256 is None:
        raise PlanRefused(
            f"weights.files {file.name} has no sha256, and unchecked weights are not baked",
            f'add sha256 = "..." to the file: the hub\'s page of it at {weights.revision} tells it',
        )
    target = f"{WEIGHTS}/{file.name}"
    parent = str(PurePosixPath(target).parent)
    if parent != WEIGHTS:
        yield directory(parent)
    if file.url is not None and file.url.startswith("file:"):
        yield Upload(recipe.path(file.url), f"{target}.part")
    else:
        yield _download(weights, file, target, materials)
    yield _name_if_sound(file, target)


def _download(weights: Weights, file: WeightFile, target: str, materials: Materials) -> Command:
    path, part = quote(target), quote(f"{target}.part")
    curl = (
        "curl --fail --silent --show-error --location --continue-at - --speed-limit 1000000 --speed-time 60"
        f" --output {part} --config -"
    )
    done = f'test -f {path} || test "$(stat --format %s {part} 2>/dev/null || echo 0)" -ge {file.bytes}'
    return Command(
        f"{done} || {curl}",
        sudo=True,
        stdin=_curl_config(weights, file, materials),
        timeout_s=300 + file.bytes / _BYTES_PER_S,
        retries=8,
        # URLs may be signed and headers may carry a token.
        secret=True,
    )


def _curl_config(weights: Weights, file: WeightFile, materials: Materials) -> bytes:
    if weights.hub is not None:
        token = materials.hub_token
        header = b"header = " + _curl_quoted(b"Authorization: Bearer " + token) + b"\n" if token else b""
        return b"url = " + _curl_quoted(hub_url(weights, file).encode()) + b"\n" + header
    url = materials.weight_urls.get(file.name) or str(file.url).encode()
    if url.startswith(b"s3://"):
        raise PlanRefused(
            f"weights.files {file.name}: {file.url} has not been signed",
            "bake with AWS credentials that may read it",
        )
    return b"url = " + _curl_quoted(url) + b"\n"


def _curl_quoted(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _name_if_sound(file: WeightFile, target: str) -> Command:
    path, part = quote(target), quote(f"{target}.part")
    check = f"echo {quote(f'{file.sha256}  {target}.part')} | sha256sum --check --status"
    wrong = quote(f"weights {file.name}: the sha256 is not {file.sha256}; the recipe or the source is wrong")
    return root(
        f"test -f {path} || {{ {check} && chmod 0644 {part} && mv {part} {path}; }}"
        f" || {{ rm -f {part}; echo {wrong} >&2; exit 1; }}",
        300 + file.bytes / 50_000_000,
    )


def _volume(materials: Materials) -> Iterator[Command]:
    device = materials.weights_device
    if device is None:
        raise PlanRefused(
            "weights.strategy is baked-volume, and the builder attached no second volume",
            "bake on EC2, or choose baked-root",
        )
    path = quote(device)
    missing = quote(f"no device {device}: the builder's second volume did not come up")
    yield root(
        f"for i in $(seq 60); do test -b {path} && exit 0; sleep 1; done; echo {missing} >&2; exit 1", 90
    )
    # Made once: a run that goes on keeps what it has fetched.
    made = f'test "$(blkid --match-tag LABEL --output value {path})" = {_LABEL}'
    yield root(f"{made} || mkfs.ext4 -q -F -m 0 -L {_LABEL} {path}", 600)
    yield root(
        f"if mountpoint --quiet {WEIGHTS}; then mount -o remount,rw {WEIGHTS};"
        f" else mount {path} {WEIGHTS}; fi",
        60,
    )
    # nofail: without it a node that lacks the volume boots into a rescue shell that nobody can reach.
    entry = f"LABEL={_LABEL} {WEIGHTS} ext4 ro,noatime,nofail,x-systemd.device-timeout=60 0 0"
    yield root(f"grep --quiet {_LABEL} /etc/fstab || echo {quote(entry)} >> /etc/fstab", 60)


def _record(weights: Weights) -> str:
    """What a node needs to fetch or check the weights itself: nothing secret, no signed URL."""
    files = [
        {
            "name": file.name,
            "url": file.url or hub_url(weights, file),
            "sha256": file.sha256,
            "bytes": file.bytes,
        }
        for file in weights.files
    ]
    return json.dumps({"files": files}, indent=2) + "\n"
