"""What our client's wheel takes: to install, in packages, and to import."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ProcessFailed
from bench.gateways import ROOT

INSTALL_S, PACKAGES, IMPORT_MS = 5.0, 8, 150.0
_RUNS = 9
_LIMIT_S = 120.0
_LIST = (
    "from importlib.metadata import distributions\n"
    "print(*sorted(found.metadata['Name'] for found in distributions()))"
)
_IMPORT = (
    "from time import process_time as now\n"
    "began = now()\n"
    "import goldenfleet_client\n"
    "print((now() - began) * 1000)"
)


@dataclass(frozen=True)
class Installed:
    """`packages` are those that came with the client. Imports are timed in processes of their own, as CPU
    time: on a busy machine all else would count others' work."""

    pip_s: float
    uv_s: float
    packages: Sequence[str]
    import_ms: Sequence[float]

    @property
    def least_import_ms(self) -> float:
        """What else the machine does can only add to it."""
        return min(self.import_ms)

    @property
    def met(self) -> bool:
        fast = self.pip_s < INSTALL_S and self.least_import_ms < IMPORT_MS
        return fast and len(self.packages) <= PACKAGES

    def table(self) -> str:
        import_ms = f"{self.least_import_ms:.0f} ms"
        return "\n".join(
            [
                "| the client's wheel | measured | bar |",
                "|---|---:|---:|",
                f"| `pip install`, nothing cached | {self.pip_s:.1f} s | {INSTALL_S:.0f} s |",
                f"| `uv pip install`, nothing cached | {self.uv_s:.1f} s | |",
                f"| packages it brings | {len(self.packages)} | {PACKAGES} |",
                f"| import, CPU time, fastest of {_RUNS} processes | {import_ms} | {IMPORT_MS:.0f} ms |",
            ]
        )


def install(directory: Path) -> Installed:
    """Into environments of their own below `directory`. Raises ProcessFailed."""
    wheel = _wheel(directory)
    by_pip = _environment(directory / "pip", pip=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-cache-dir")
    pip_s = _timed([by_pip, "-m", "pip", "install", *quiet, str(wheel)])
    by_uv = _environment(directory / "uv", pip=False)
    uv_s = _timed([*_UV, "pip", "install", "--quiet", "--no-cache", "--python", by_uv, str(wheel)])
    listed = set(_run([by_pip, "-c", _LIST]).split()) - {"goldenfleet-client", "pip", "setuptools", "wheel"}
    import_ms = [float(_run([by_pip, "-c", _IMPORT])) for _ in range(_RUNS)]
    return Installed(pip_s, uv_s, sorted(listed), import_ms)


_UV = (sys.executable, "-m", "uv")


def _wheel(directory: Path) -> Path:
    out = directory / "wheel"
    build = ("build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable)
    _run([*_UV, *build, "--out-dir", str(out), str(ROOT / "client")])
    [wheel] = out.glob("*.whl")
    return wheel


def _environment(path: Path, *, pip: bool) -> str:
    _run([sys.executable, "-m", "venv", *(() if pip else ("--without-pip",)), str(path)])
    return str(path / "bin" / "python")


def _timed(argv: Sequence[str]) -> float:
    began = time.monotonic()
    _run(argv)
    return time.monotonic() - began


def _run(argv: Sequence[str]) -> str:
    """Its stdout. Raises ProcessFailed."""
    what = " ".join(argv[1:5])
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise ProcessFailed(f"{what} was not done in {_LIMIT_S:.0f} s") from exc
    if ended.returncode:
        raise ProcessFailed(f"{what} failed; it needs a package index: {ended.stderr[-800:]}")
    return ended.stdout
