#!/usr/bin/env bash
# Builds .venv from pyproject.toml and constraints.txt, and installs missing system libraries. Quick when nothing changed.
#
#   scripts/setup.sh            everything (`make setup`)
#   scripts/setup.sh --system   the system packages alone (the Dockerfile, as root)
#   scripts/setup.sh --extra X  an extra of pyproject.toml into a .venv that is ready: docs, games or outside
#
#   PYTHON=path                 the interpreter to build from; otherwise python3.12, python3.11 or python3, whichever runs
#   DEVICE=cpu|cuda             the build of torch; otherwise the one in .venv, or what this machine has
#   TORCH_INDEX_URL=address     the package index to take torch from; otherwise pip's own
#   MUJOCO_GL=osmesa|glfw       anything but egl: the EGL check is yours
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

EXTRAS=(dev cluster)  # of pyproject.toml, in .venv beside its dependencies
EGL_PACKAGES=(libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libopengl0)  # GLVND's EGL and OpenGL, Mesa's software driver
STAMP=.venv/setup-stamp

fail() {  # what, where, what to do
    printf 'error: %s: %s: %s\n' "$1" "$2" "$3" >&2
    exit 2
}

# Version managers leave commands on PATH that exist and fail, so an interpreter counts when it runs.
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
supported() { case "$(version "$1")" in 3.11 | 3.12) true ;; *) false ;; esac; }
can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Sets `python`: the one asked for, the one .venv has, or the first that can make an environment, or the first at all.
find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "this is not a working Python 3.11 or 3.12" "PYTHON=$PYTHON" "name another, or leave PYTHON unset"
        python=$PYTHON
        return
    fi
    python=
    for candidate in .venv/bin/python python3.12 python3.11 python3; do
        supported "$candidate" || continue
        # Never the link inside .venv itself: rebuilding would delete it under our feet.
        candidate=$("$candidate" -c 'import sys; print(sys._base_executable)')
        if can_make_venv "$candidate"; then
            python=$candidate
            return
        fi
        python=${python:-$candidate}
    done
    [ -n "$python" ] || fail "found no working Python 3.11 or 3.12" "PATH" "install one (Debian 12, Ubuntu 24.04: sudo apt-get install -y python3 python3-venv), or name one: make setup PYTHON=/path/to/python3.12"
}

# Sets `reason`, what the system lacks, and `packages`, what brings it.
find_missing() {
    local egl
    reason='' packages=()
    if ! can_make_venv "$python"; then
        reason="$python cannot make a virtual environment"
        packages+=("python$(version "$python")-venv")
    fi
    if [ "${MUJOCO_GL:-egl}" = egl ] && ! egl=$("$python" scripts/egl.py 2>/dev/null); then
        reason="${reason:+$reason, and }${egl:-EGL does not work}"
        packages+=("${EGL_PACKAGES[@]}")
    fi
}

install_system() {
    find_missing
    [ ${#packages[@]} -gt 0 ] || return 0
    local install="apt-get install -y --no-install-recommends ${packages[*]}" as_root=()
    command -v apt-get >/dev/null ||
        fail "$reason" "system libraries" "install what your system calls ${packages[*]}, then run make setup again"
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        sudo -n true 2>/dev/null || fail "$reason" "system libraries" "run: sudo apt-get update && sudo $install"
    fi
    echo "set-up: $reason; installing ${packages[*]}"
    # `;`, since one stale source of many fails an update and hinders no install. sudo forgets variables; env does not.
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update; $install" ||
        fail "$reason" "system libraries" "apt's lines above say why it failed; mend that, then run as root: $install"
    find_missing
    [ ${#packages[@]} -eq 0 ] ||
        fail "$reason" "system libraries" "${packages[*]} did not help: check the graphics driver, or set MUJOCO_GL to osmesa or glfw"
}

# What pyproject.toml says of the package; and its dependencies and EXTRAS, a line each.
project() { "$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"])'; }
dependencies() {
    "$python" -c '
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
lines = [line for extra in sys.argv[1:] for line in project["optional-dependencies"][extra]]
print(*project["dependencies"], *lines, sep="\n")' "${EXTRAS[@]}"
}

# The stamp: Python, a hash of what is to be installed, the build of torch. Written last: a broken-off set-up has none.
wanted() { echo "$(version "$python") $( (project && cat constraints.txt) | sha256sum | cut -c1-16) $device"; }
stamped() { cut -d' ' -f"$1" "$STAMP" 2>/dev/null || true; }
up_to_date() { [ "$(stamped 1-3)" = "$(wanted)" ] && supported .venv/bin/python && { [ ! -d foreground ] || installed; }; }
installed() { compgen -G ".venv/lib/python*/site-packages/foreground-*.dist-info" >/dev/null; }

# Sets `device`: the one asked for, the one .venv has, or what this machine has.
pick_device() {
    device=${DEVICE:-$(stamped 3)}
    if [ -z "$device" ]; then
        if nvidia-smi -L >/dev/null 2>&1; then device=cuda; else device=cpu; fi
    fi
    case "$device" in cpu | cuda) ;; *) fail "unknown device '$device'" "DEVICE" "choose cpu or cuda" ;; esac
}

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
pip_failed() { fail "pip could not install $1" ".venv" "pip's lines above say why; mend that, then run make setup again"; }

install_packages() {
    local torch from=()
    torch=$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' constraints.txt)
    [ -z "${TORCH_INDEX_URL:-}" ] || from=(--index-url "$TORCH_INDEX_URL")

    rm -f "$STAMP"
    if [ "$(version .venv/bin/python)" != "$(version "$python")" ] || ! pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear .venv ||
            fail "could not make the virtual environment" ".venv" "the lines above say why; mend that, then run make setup again"
    fi

    # Torch first, for its build and its index. An index may offer a CPU build, the smaller download; pip's default has
    # one build for all, which runs on a CPU as well. For pip a CPU build in place would pass for the CUDA one.
    if [ "$device" = cpu ]; then
        pip install "${from[@]}" -c constraints.txt "$torch+cpu" 2>/dev/null ||
            echo "set-up: no index here has $torch+cpu; taking $torch"
    elif compgen -G ".venv/lib/python*/site-packages/torch-*+cpu.dist-info" >/dev/null; then
        pip uninstall -y torch
    fi
    pip install "${from[@]}" -c constraints.txt "$torch" || pip_failed "$torch"
    pip install -c constraints.txt -r <(dependencies) || pip_failed "the dependencies"
    if [ -d foreground ]; then  # the image has no sources yet when its packages are installed
        pip install --no-deps --no-build-isolation --editable . || pip_failed "foreground"
    fi
    if [ "$device" = cuda ] && ! .venv/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None)'; then
        fail "the torch that pip found has no CUDA" "DEVICE=cuda" "set TORCH_INDEX_URL to an index with the CUDA build, or DEVICE=cpu"
    fi
    wanted >"$STAMP"
}

case "${1:-}" in
--system)
    find_python
    install_system
    ;;
"")
    find_python
    pick_device
    find_missing
    if [ ${#packages[@]} -gt 0 ] || ! up_to_date; then
        exec 9>.setup-lock
        flock 9  # of two makes at once the second waits, and then finds the work done
        install_system
        up_to_date || install_packages
    fi
    echo "set-up: .venv is ready (Python $(stamped 1), torch for $(stamped 3))"
    ;;
--extra)
    find_python
    EXTRAS=("${2:-}")
    lines=$(dependencies 2>/dev/null) || fail "there is no extra '${2:-}'" "pyproject.toml" "choose docs, games, outside or cuda"
    pip install --quiet -c constraints.txt -r <(echo "$lines") || pip_failed "the extra $2"
    ;;
*) fail "unknown argument '$1'" "scripts/setup.sh" "give none, --system or --extra NAME" ;;
esac
