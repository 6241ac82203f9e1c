# Sourced by the scripts beside it: makes .venv from the hash-pinned requirements, once per change of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }

# ensure_venv REQUIREMENTS_NAME: .venv holds exactly what requirements/NAME.txt pins, and this checkout.
ensure_venv() {
  local pins=requirements/$1.txt stamp=.venv/.goldenfleet-$1 python=${PYTHON:-python3}
  local want; want=$(cat "$pins" pyproject.toml client/pyproject.toml | sha256sum | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null || true)" = "$want" ] && return
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    say "goldenfleet: $python is missing or older than 3.11. Install Python 3.11 or newer, or set PYTHON to it."; exit 1; }
  say "goldenfleet: installing $pins into .venv (600 to 750 MB, once)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv || {
    say "goldenfleet: cannot make a virtual environment. On Debian: apt-get install python3-venv"; exit 1; }
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
  VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install --quiet --require-hashes -r "$pins"
  VIRTUAL_ENV=$PWD/.venv .venv/bin/uv pip install --quiet --no-deps --no-build-isolation --editable . --editable ./client
  printf '%s\n' "$want" >"$stamp"
}

# ensure_packages FILE: the Debian packages that FILE names are installed, where we may install them.
ensure_packages() {
  local missing
  command -v dpkg-query >/dev/null || return 0
  missing=$(grep -v '^#' "$1" | xargs -n1 sh -c 'dpkg-query -W -f="\${Status}" "$0" 2>/dev/null | grep -q "ok installed" || echo "$0"')
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    say "goldenfleet: some tests need packages, and are skipped without: sudo apt-get install $(echo $missing)"; return 0
  fi
  say "goldenfleet: installing" $missing
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
}
