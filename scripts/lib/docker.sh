# A Docker engine that answers. Sourced; needs say.sh.
# Where one answers already, nothing of the system is touched.

docker_log=/var/log/rgrid-dockerd.log

# docker_answers: ask the engine itself; neither a client nor a socket file proves that one is there.
docker_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

ensure_docker() {
  if command -v docker >/dev/null && docker_answers; then return 0; fi
  is_root || die docker-unreachable "The Docker engine does not answer, and only root can install or start it." \
    "Start Docker (on most systems: sudo systemctl start docker), or run this as root."
  if ! command -v dockerd >/dev/null; then
    step "installing Docker Engine from the distribution's packages"
    # The client is a package of its own from Debian 13 on.
    local client=()
    if apt-cache show docker-cli >/dev/null 2>&1; then client=(docker-cli); fi
    apt_install docker.io iptables tini "${client[@]}" ||
      apt_install docker.io iptables tini ||
      die docker-unreachable "Docker Engine could not be installed." "Install it by hand, then run this again."
  fi
  if [ -d /run/systemd/system ]; then
    systemctl start docker || die docker-unreachable "systemctl could not start docker." "See: journalctl -u docker"
  else
    start_dockerd
  fi
  await_docker
}

# start_dockerd: by hand, in a session of its own; `tini -s` reaps container shims, which otherwise stay as zombies.
start_dockerd() {
  step "starting the Docker engine (log: $docker_log)"
  # An engine that died leaves its pid file behind, and the pid may be somebody else's by now: dockerd would refuse.
  local file name
  for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid /run/docker/containerd/containerd.pid; do
    [ -f "$file" ] || continue
    name=$(cat "/proc/$(cat "$file")/comm" 2>/dev/null || true)
    case "$name" in dockerd | containerd) ;; *) rm -f "$file" ;; esac
  done
  setsid tini -s -- dockerd --live-restore </dev/null >>"$docker_log" 2>&1 &
  disown
}

await_docker() {
  local deadline=$((SECONDS + 60))
  until docker_answers; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      tail -n 15 "$docker_log" >&2 2>/dev/null || true
      die docker-unreachable "The Docker engine was started but does not answer." "Look at $docker_log."
    fi
    sleep 0.2
  done
}
