"""What must and must not be on the machine, asked right before it is stopped."""

from __future__ import annotations

from collections.abc import Iterator

from images.forbidden import FORBIDDEN
from images.recipe import Recipe
from images.steps.command import Command, Facts, Materials, Strategy
from images.steps.shell import CONFIG, SHARE, WEIGHTS, quote, root
from images.steps.units import service_files
from images.steps.weights import BAKED, strategy_of

FREE_KIB = 1024 * 1024
# A volume that is still being filled from its snapshot, at its slowest for one reader: 5 MiB/s.
_READ_BYTES_PER_S = 5 * 1024 * 1024


def present(recipe: Recipe, facts: Facts, materials: Materials) -> Iterator[Command]:
    """While Docker still runs: all that a node needs is there and will start."""
    strategy = strategy_of(recipe.weights, materials) if recipe.weights else None
    for container in recipe.containers:
        yield _must(
            f"docker image inspect {quote(container.name)} >/dev/null 2>&1", f"container {container.name}"
        )
    for name in ("docker.service", *service_files(recipe, strategy)):
        yield _must(f"systemctl is-enabled --quiet {quote(name)}", f"enabled unit {name}")
    if strategy == "baked-volume":
        yield _must(f"mountpoint --quiet {WEIGHTS}", "the volume of the weights")
    if recipe.weights is not None and strategy in BAKED:
        for file in recipe.weights.files:
            path = quote(f"{WEIGHTS}/{file.name}")
            yield _must(
                f'test "$(stat --format %s {path} 2>/dev/null)" = {file.bytes}', f"weights {file.name}"
            )
    for path in (f"{CONFIG}/image.json", f"{SHARE}/sbom.cdx.json", "/usr/local/bin/goldenfleet-boot"):
        yield _must(f"test -s {path}", path)
    if facts.distribution != "amzn":
        held = "apt-mark showhold | grep --quiet ."
        kernels = "dpkg-query --show 'linux-image-[0-9]*' 2>/dev/null"
        yield _must(f'test -z "$({kernels})" || {held}', "a held kernel")
    yield _must(
        f'test "$(df --output=avail -k / | tail -n 1)" -ge {FREE_KIB}',
        "1 GiB of free space: enlarge disk.root_gib",
    )


def attached(recipe: Recipe, strategy: Strategy | None) -> Iterator[Command]:
    """On a fresh node: the weights' volume is mounted, cannot be written, and holds them and no more."""
    if recipe.weights is None or strategy != "baked-volume":
        return
    files = recipe.weights.files
    mounted = f"findmnt --options ro --mountpoint {WEIGHTS} >/dev/null"
    yield _must(mounted, f"{WEIGHTS}, mounted read-only")
    found = f'"$(find {WEIGHTS} -type f | wc --lines)"'
    yield _must(f"test {found} -eq {len(files)}", f"{len(files)} files and no more in {WEIGHTS}")
    listed = "".join(f"{file.sha256}  {WEIGHTS}/{file.name}\n" for file in files)
    timeout_s = 300 + recipe.weights.bytes / _READ_BYTES_PER_S
    yield Command("sha256sum --check --strict --quiet", sudo=True, stdin=listed.encode(), timeout_s=timeout_s)


def absent(facts: Facts) -> Iterator[Command]:
    """After the clean: one command that names everything forbidden that is left.

    The login user's keys are still there; `cut_access` takes them and the booted image is searched again.
    """
    own = f"/home/{facts.user}/.ssh/authorized_keys" if facts.user != "root" else "/root/.ssh/authorized_keys"
    lines = [
        f'for path in {rule.pattern}; do left "$path" {"-e" if rule.allowed == "absent" else "-s"}; done'
        for rule in FORBIDDEN
    ]
    function = (
        f'found=0; left() {{ test "$1" = {quote(own)} && return; test $2 "$1" || return;'
        ' echo "left: $1" >&2; found=1; }'
    )
    yield root("; ".join([function, *lines, "exit $found"]), 120)


def _must(condition: str, what: str) -> Command:
    return root(f"{condition} || {{ echo {quote(f'missing: {what}')} >&2; exit 1; }}", 60)
