# shellcheck shell=bash
# PostgreSQL's newest server beside Debian's, for tests. Needs common.sh and install.sh.

# Sets newest_postgres_bin to its programs' folder, and fetches them first when they are missing.
need_newest_postgres() {
  local pom=$repository/e2e/newest-postgres/pom.xml link=$run_directory/newest-postgres platform=linux-amd64
  local hash home started log=$run_directory/maven-postgres.log
  need mvn maven
  need xz xz-utils
  hash=$(sha256sum <"$pom")
  newest_postgres_bin=$link/bin
  if [[ -x $newest_postgres_bin/postgres && $(cat "$link/pom.sha256" 2>/dev/null) == "$hash" ]]; then return; fi
  if [[ $(uname -m) == aarch64 ]]; then platform=linux-arm64v8; fi
  started=$(now_ms)
  mkdir -p "$run_directory"
  # Not within the repository: the user postgres, who runs it, may not be able to go there.
  home=$(mktemp -d /var/tmp/cdc-newest-postgres-XXXXXX)
  if ! mvn -q -B -Dstyle.color=never -f "$pom" dependency:unpack-dependencies -Dplatform="$platform" \
    -Dto="$home" >"$log" 2>&1 || ! tar --xz -xf "$home"/postgres-*.txz -C "$home"; then
    tail -n 20 "$log" >&2
    rm -rf "$home"
    die "Maven could not fetch $pom (log: $log)"
  fi
  rm -rf "$home"/postgres-*.txz "$home/META-INF" "$home/markers"
  chmod -R a+rX "$home"
  printf '%s\n' "$hash" >"$home/pom.sha256"
  # What an older pom brought goes.
  if [[ -L $link ]]; then rm -rf "$(readlink "$link")"; fi
  ln -sfn "$home" "$link"
  step_done "$started" "fetched $("$newest_postgres_bin/postgres" --version)"
}
