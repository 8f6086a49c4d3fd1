# The virtual environment at the root, with everything locked by hash. Sourced; needs say.sh.

# find_python: the first interpreter that is new enough.
find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return 0
    fi
  done
  return 1
}

ensure_venv() {
  local python stamp
  python=$(find_python) || die setting-invalid "No Python 3.11 or newer was found." \
    "Install one (on Debian: apt-get install python3 python3-venv), then run this again."
  exec 9>.venv.lock
  flock 9
  stamp=$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
  if [ "$(cat .venv/.rgrid-stamp 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c 'import rgrid_cli' 2>/dev/null; then
    exec 9>&-
    return 0
  fi
  step "making .venv and installing the locked packages"
  if ! [ -x .venv/bin/python ]; then
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
      # Debian keeps pip's bootstrap in a package of its own.
      is_root && apt_install python3-venv || die setting-invalid "Python has no venv module." \
        "Install it (on Debian: apt-get install python3-venv), then run this again."
    fi
    "$python" -m venv .venv
  fi
  if ! install_locked; then
    die setting-invalid "The locked packages could not be installed." "See the lines above; is a package index reachable?"
  fi
  echo "$stamp" >.venv/.rgrid-stamp
  exec 9>&-
}

# install_locked: with uv, which is many times quicker; with pip where only pip knows the way to an index.
install_locked() {
  local log
  log=$(mktemp)
  # Bytecode is compiled here: Ray starts many processes, each of which would do it again.
  export UV_COMPILE_BYTECODE=1
  if .venv/bin/python -m pip install -q --disable-pip-version-check uv >"$log" 2>&1 &&
    .venv/bin/uv pip install -q -p .venv/bin/python --require-hashes -r requirements.lock >>"$log" 2>&1 &&
    .venv/bin/uv pip install -q -p .venv/bin/python --no-deps -e . >>"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  if .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock >>"$log" 2>&1 &&
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -e . >>"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  cat "$log" >&2
  rm -f "$log"
  return 1
}
