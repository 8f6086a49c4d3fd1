# Words to people, on stderr. Sourced.

say() { printf '%s\n' "$*" >&2; }

# step WORDS...: say what is being done, and since when the script runs.
step() { printf '[%3ds] %s\n' "$SECONDS" "$*" >&2; }

# die CODE MESSAGE HINT
die() {
  printf 'error[%s]: %s\n' "$1" "$2" >&2
  [ -n "${3:-}" ] && printf 'hint: %s\n' "$3" >&2
  exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# apt_install PACKAGE...: quietly; the whole log is shown when it fails.
apt_install() {
  command -v apt-get >/dev/null || return 1
  local log
  log=$(mktemp)
  if ! { DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}
