# shellcheck shell=bash
# shellcheck disable=SC2034 # it sets what its users read
# Finds the programs that the scripts need and installs what is missing, when it may. Needs common.sh.

packages_updated=

can_install() { [[ $(id -u) == 0 ]] && have apt-get; }

# need PROGRAM PACKAGE...: installs the Debian packages when the program is missing.
need() {
  local program=$1
  shift
  if ! have "$program"; then install_packages "$program" "$@"; fi
}

install_packages() {
  local what=$1 started log
  shift
  can_install || die "$what is missing. Install the package $* (Debian's name), or run this as root on Debian." 69
  started=$(now_ms)
  mkdir -p "$run_directory"
  log=$run_directory/install.log
  if ! {
    if [[ -z $packages_updated ]]; then apt-get -qq update; fi
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@"
  } >>"$log" 2>&1 9>&-; then
    tail -n 15 "$log" >&2
    die "could not install $* (log: $log)"
  fi
  packages_updated=yes
  step_done "$started" "installed $*"
}

# Sets postgres_bin to the server programs in PG_BIN, else to the newest that is installed.
find_postgres() {
  local candidate
  postgres_bin=${PG_BIN:-}
  if [[ -n $postgres_bin ]]; then
    [[ -x $postgres_bin/postgres && -x $postgres_bin/initdb ]] || die "PG_BIN: $postgres_bin has no postgres and initdb" 2
    return
  fi
  for candidate in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -V); do
    if [[ -x $candidate/postgres && -x $candidate/initdb ]]; then postgres_bin=$candidate; fi
  done
  if [[ -z $postgres_bin ]] && have postgres && have initdb; then
    postgres_bin=$(dirname "$(command -v postgres)")
  fi
  [[ -n $postgres_bin ]]
}

need_postgres() {
  local no_cluster=/etc/postgresql-common/createcluster.d/no-main-cluster.conf
  if find_postgres; then return; fi
  if can_install; then
    # Debian's package would start a cluster of its own on port 5432, the leader's.
    mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' >"$no_cluster"
  fi
  install_packages "PostgreSQL's server" postgresql postgresql-client
  rm -f "$no_cluster"
  find_postgres || die "PostgreSQL's server programs (postgres, initdb) cannot be found after the installation"
}

java_version() { "$1" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1; }

# Sets java to a Java 17 or newer.
find_java() {
  local candidate version
  java=
  for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    [[ -n $candidate && -x $candidate ]] || continue
    version=$(java_version "$candidate")
    if ((${version:-0} >= 17)); then
      java=$candidate
      return 0
    fi
  done
  return 1
}

need_java() {
  if ! find_java; then
    install_packages "Java 17 or newer" openjdk-17-jre-headless
    find_java || die "Java 17 cannot be found after the installation"
  fi
}

need_cargo() {
  if ! have cargo && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then PATH=$HOME/.cargo/bin:$PATH; fi
  have cargo || die "cargo is missing: install Rust as https://rustup.rs says, then run this again." 69
  # librdkafka is C and C++, and links zlib.
  need g++ g++ make
  need make make
  if can_install && [[ ! -e /usr/include/zlib.h ]]; then install_packages "zlib's header" zlib1g-dev; fi
}
