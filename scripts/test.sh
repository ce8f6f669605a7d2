#!/usr/bin/env bash
# Every check of the repository, in the order in which they are quickest to fail. What is missing is installed first,
# when this runs as root on Debian.
#
#   scripts/test.sh [PART...]
#
#   files    shell scripts, docker-compose.yml, JSON; cargo-deny when it is installed
#   lint     formatting, clippy, documentation
#   unit     the tests inside each crate, its tests/it and its documentation, with real PostgreSQL servers
#   e2e      the whole system: started by start-system.sh, driven through HTTP and a browser; then again without a broker
#   newest   what depends on the server's version, with the newest PostgreSQL that a package registry has
#
# Without PART: all of them. Release builds only, so that librdkafka is compiled once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"
# shellcheck source=scripts/lib/newest-postgres.sh
source "$here/lib/newest-postgres.sh"

parts=()
while (($#)); do
  case $1 in
    files | lint | unit | e2e | newest) parts+=("$1") ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    *) die "no part '$1'; there are: files lint unit e2e newest" 2 ;;
  esac
  shift
done
if ((${#parts[@]} == 0)); then parts=(files lint unit e2e newest); fi

began=$(now_ms)
cd "$repository"

# check TEXT COMMAND...: runs it with its output shown, then the time it took; ends everything when it fails.
check() {
  local text=$1 started
  shift
  started=$(now_ms)
  say "== $text"
  if ! "$@"; then
    warn "FAILED: $text"
    warn "        after $(human_ms $(($(now_ms) - started))); the command was: $*"
    exit 1
  fi
  step_done "$started" "$text"
}

# No image can be built without a Docker engine. What would go wrong first is seen without one: a crate of the workspace that
# the Dockerfile does not copy, or that .dockerignore keeps from it.
dockerfile_has_the_workspace() (
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  while read -ra words; do
    target=$folder/${words[-1]}
    for source in "${words[@]:1:${#words[@]}-2}"; do
      grep -qxF -e "!$source" -e "!${source%%/*}" .dockerignore || {
        warn "the Dockerfile copies $source, and .dockerignore does not let it through"
        exit 1
      }
      mkdir -p "$target"
      # Of a folder COPY takes what is in it.
      if [[ -d $source ]]; then cp -r "$source/." "$target"; else cp "$source" "$target"; fi
    done
  done < <(sed -n '/^RUN for crate/q; /^COPY/p' Dockerfile)
  # The command that follows, up to where it begins to build.
  placeholders=$(sed -n '/^RUN for crate/,/&& cargo build/p' Dockerfile |
    sed '/&& cargo build/d; /^ *#/d; s/^RUN //; s/\\$//' | tr '\n' ' ')
  cd "$folder" && eval "$placeholders" && cargo metadata --locked --no-deps --format-version 1 >/dev/null
)

part_files() {
  need shellcheck shellcheck
  need jq jq
  check "shell scripts" shellcheck -x -a -P SCRIPTDIR/.. -s bash scripts/*.sh .ci/run postgres/*.sh
  need_cargo
  check "Dockerfile: the crates of the workspace" dockerfile_has_the_workspace
  check "debezium/register-postgres.json" jq empty debezium/register-postgres.json
  if have docker && docker compose version >/dev/null 2>&1; then
    check "docker-compose.yml, by docker compose" docker compose --env-file .env.example config --quiet
  elif have python3 && python3 -c 'import yaml' 2>/dev/null; then
    say "   docker compose is not installed: docker-compose.yml is only read as YAML, its settings are not checked"
    check "docker-compose.yml, as YAML" python3 -c 'import yaml; yaml.safe_load(open("docker-compose.yml"))'
  else
    say "   skipped: docker-compose.yml (neither docker compose nor a YAML reader is installed)"
  fi
  if have cargo-deny; then
    check "dependencies" cargo deny --locked check
  else
    say "   skipped: dependency policy, deny.toml (cargo-deny is not installed: cargo install cargo-deny)"
  fi
}

part_lint() {
  need_cargo
  check "formatting" cargo fmt --check
  check "clippy" cargo clippy --locked --workspace --all-targets --release -- -D warnings
  check "documentation" env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --workspace --release
}

part_unit() {
  need_cargo
  need_postgres
  check "every test file belongs to a part" no_stray_tests
  # Always the whole workspace: with another choice of crates cargo would compile shared dependencies anew.
  # Of these targets none builds it, and a test runs it.
  check "the example of the reading layer" cargo build --locked --release --workspace --examples
  check "tests of each crate" cargo test --locked --release --workspace --lib --bins --test it
  check "examples in the documentation" cargo test --locked --release --workspace --doc
}

# The tests are chosen by name, so a file with another name would never run.
no_stray_tests() {
  local stray
  stray=$(find ./*/tests -mindepth 1 -maxdepth 1 ! -name it ! -name system)
  [[ -z $stray ]] || die "no part of scripts/test.sh runs $stray"
}

part_e2e() {
  need_cargo
  need_postgres
  need_java
  need curl curl
  need jq jq
  need mvn maven
  need chromium chromium
  need chromedriver chromium-driver
  check "the whole system" cargo test --locked --release --workspace --test system
  # What differs is where changes come from, so load and chaos are shorter than in the first run.
  check "the whole system, straight from the leader" env E2E_SOURCE=direct E2E_TRANSACTIONS=2000 E2E_CHAOS_MINUTES=1 \
    cargo test --locked --release --workspace --test system
}

part_newest() {
  # Not those that load with pgbench, which the archive lacks.
  local checks=(every_value every_type a_large_transaction truncate restored slot)
  need_cargo
  need_postgres
  need_newest_postgres
  need curl curl
  need jq jq
  check "the leader's own stream, from PostgreSQL $("$newest_postgres_bin/postgres" --version | grep -o '[0-9.]*$')" \
    env PG_BIN="$newest_postgres_bin" cargo test --locked --release --workspace --test it -- direct:: rebuild:: ownership:: streamed::
  check "the whole system with it, without a broker" env PG_BIN="$newest_postgres_bin" E2E_SOURCE=direct \
    cargo test --locked --release --workspace --test system -- "${checks[@]}"
}

for part in "${parts[@]}"; do "part_$part"; done
say
say "Everything passed in $(human_ms $(($(now_ms) - began)))."
