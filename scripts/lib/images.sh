# Runtime images. Sourced; needs say.sh and an engine that answers.
# Pulled where a registry answers; else built from the distribution's packages, and said so.

# ensure_image TAG: python:3.11, python:3.13 or node:20, or rgrid-builder/ before one of them
ensure_image() {
  local tag=$1
  if docker image inspect "$tag" >/dev/null 2>&1; then return 0; fi
  step "getting image $tag"
  case "$tag" in
    rgrid-builder/*) ;; # nobody's but ours
    *) if timeout 300 docker pull -q "$tag" >/dev/null 2>&1; then return 0; fi ;;
  esac
  is_root || die image-unavailable "No registry gave $tag, and only root can build it from packages." \
    "Connect the engine to a registry, or run this as root."
  build_image "$tag"
}

# no_registry: whether what is here was built for want of a registry; what is not here cannot be pulled either.
no_registry() { [ -n "$(docker images -q --filter label=rgrid.built-from 2>/dev/null)" ]; }

# ensure_builder_image TAG: what installs packages for jobs in an image that has no compiler, or no npm, itself.
ensure_builder_image() {
  local tag=$1
  case "$tag" in
    node:*) docker run --rm --network none --entrypoint sh "$tag" -c 'command -v npm' >/dev/null 2>&1 && return 0 ;;
    *) docker run --rm --network none --entrypoint sh "$tag" -c 'command -v cc' >/dev/null 2>&1 && return 0 ;;
  esac
  ensure_image "rgrid-builder/$tag"
}

build_image() {
  local tag=$1 suite packages cmd python="python3,python-is-python3,python3-pip,ca-certificates" tools="gcc,g++,make,libc6-dev,git"
  case "$tag" in
    python:3.11) suite=bookworm packages=$python cmd='["python3"]' ;;
    python:3.13) suite=trixie packages=$python cmd='["python3"]' ;;
    node:20) suite=trixie packages=nodejs,ca-certificates cmd='["node"]' ;;
    # What installs packages that have to be compiled, or Node's: the same bits, with tools.
    rgrid-builder/python:3.11) suite=bookworm packages=$python,$tools,python3-dev cmd='["python3"]' ;;
    rgrid-builder/python:3.13) suite=trixie packages=$python,$tools,python3-dev cmd='["python3"]' ;;
    rgrid-builder/node:20) suite=trixie packages=nodejs,ca-certificates,npm,$tools cmd='["node"]' ;;
    *) die image-unavailable "No registry gave $tag, and no package of the distribution has it." "Pull it by hand." ;;
  esac
  say "      no registry answered for $tag: building it from Debian $suite's packages (it differs from the official one)"
  command -v mmdebstrap >/dev/null || apt_install mmdebstrap ||
    die image-unavailable "mmdebstrap could not be installed." "Install it by hand, then run this again."
  # Named aside first: an image that is half there is never found under its own name.
  local tar aside="rgrid-building/${tag/:/-}"
  tar=$(mktemp --suffix=.tar)
  if ! mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$tar" >"$tar.log" 2>&1; then
    tail -n 15 "$tar.log" >&2
    rm -f "$tar" "$tar.log"
    die image-unavailable "Image $tag could not be built." "See the lines above."
  fi
  docker import -c "CMD $cmd" -c 'ENV LANG=C.UTF-8' -c 'LABEL rgrid.built-from=debian' "$tar" "$aside" >/dev/null
  docker tag "$aside" "$tag"
  docker rmi "$aside" >/dev/null
  rm -f "$tar" "$tar.log"
}
