#!/bin/sh
# Make the virtual environment, or say in one line which system packages are missing (and install them when root).
set -eu
venv=${1:-.venv}
python=${PYTHON:-python3}

missing() {
    command -v "$python" >/dev/null 2>&1 || { echo "python3 python3-venv python3-dev"; return; }
    "$python" - <<'PROBE'
import os, sysconfig
need = []
try:
    import ensurepip  # noqa: F401
except ImportError:
    need.append("python3-venv")
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    need.append("python3-dev")
print(" ".join(need))
PROBE
}

packages=$(missing)
command -v cc >/dev/null 2>&1 || packages="$packages gcc libc6-dev"
packages=$(echo $packages)
if [ -n "$packages" ]; then
    line="apt-get install -y --no-install-recommends $packages"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing missing system packages: $packages" >&2
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive $line -qq >/dev/null
    else
        echo "missing system packages; run:  sudo $line" >&2
        exit 1
    fi
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $("$python" -V) was found" >&2; exit 1; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" - <<'REQS' >"$venv/requirements.txt"
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extra = project["optional-dependencies"]
print("\n".join(project["dependencies"] + extra["ed25519"] + extra["tools"] + extra["dev"]))
REQS
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$venv/requirements.txt"
