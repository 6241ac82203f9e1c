"""Archives that a program gives: the code of functions."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass

# The earliest time that a zip can hold: the same files give the same bytes, whenever they were written.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o644 << 16


@dataclass(frozen=True)
class Archive:
    """Files by their paths inside, in order."""

    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.files).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"[archive of {len(self.files)} files, {self.digest[:12]}]"

    def zipped(self) -> bytes:
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, text in self.files:
                entry = zipfile.ZipInfo(path, _NO_TIME)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _READABLE
                archive.writestr(entry, text)
        return held.getvalue()
