# shellcheck shell=bash
# start_system for kafka and direct mode. Sourced by start-system.sh, whose options it reads: $mode, $fresh, $only.

# Brings process.sh and services.sh.
# shellcheck source=scripts/lib/stop-native.sh
source "$here/lib/stop-native.sh"

wanted=("${database_services[@]}")
if [[ $mode == kafka ]]; then wanted+=("${kafka_services[@]}"); fi
if [[ -z $only ]]; then wanted+=("${program_services[@]}"); fi
tracks=()

start_system() {
  local name
  # The passwords are encoded where they are put into URLs.
  require_plain WEB_SESSION_KEY
  mkdir -p "$state"
  take_lock
  if [[ -n $fresh ]]; then
    # Not by stop-system.sh, which would delete the volumes of docker mode too.
    volumes=yes stop_native 9>&-
    mkdir -p "$state"
    # The lock's file went with the folder.
    take_lock
  fi
  check_passwords
  check_mode
  find_out_what_runs
  if ((${#missing[@]} == 0)); then
    if [[ $mode == kafka ]]; then register_connector; fi
    say "  everything runs already"
    return
  fi

  for name in "${missing[@]}"; do require_free_port "$name"; done
  if [[ " ${missing[*]} " == *' broker '* ]]; then require_free_port controller; fi
  install_what_is_missing

  # Filled by launch: what to stop when this run fails.
  started_list=$state/started-by-this-run
  : >"$started_list"
  trap 'undo $?' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP

  # Three things that do not need each other. Each is a process group, so that undo can end it with its children.
  set -m
  (set +m && trap - EXIT INT TERM HUP && start_databases) &
  tracks+=($!)
  if [[ $mode == kafka ]]; then
    (set +m && trap - EXIT INT TERM HUP && start_kafka) &
    tracks+=($!)
  fi
  if [[ -z $only ]]; then
    (set +m && trap - EXIT INT TERM HUP && build_programs) &
    tracks+=($!)
  fi
  set +m
  await_tracks

  if [[ $mode == kafka ]]; then register_connector; fi
  for name in "${program_services[@]}"; do
    if is_missing "$name"; then
      start_service "$name"
    fi
  done
  trap - EXIT INT TERM HUP
  rm -f "$started_list"
  if [[ -z $only ]]; then await_live; fi
}

# The first fill takes as long as the leader has rows. Past a minute the system is said to run all the same.
await_live() {
  local started
  started=$(now_ms)
  if wait_until 60 replicas_are_live; then
    step_done "$started" "the replicas are filled and live"
  else
    say "  the replicas are still being filled, or one is down: http://localhost:$(port_of replicator)/v1/replicas"
  fi
}

take_lock() {
  have flock || return 0
  exec 9>"$state/lock"
  flock -n 9 || die "another start-system.sh is starting this system ($state)"
}

find_out_what_runs() {
  local name
  missing=()
  find_postgres || true
  for name in "${wanted[@]}"; do
    if is_running "$name"; then
      await_ready "$name"
      # It may have been launched by a run that was killed next, or by service.sh start --no-wait.
      if is_postgres "$name"; then initialise_postgres "$name"; fi
      printf '  %-64s %10s\n' "$name runs already on 127.0.0.1:$(port_of "$name")" "pid $(running_pid "$name")"
    else
      missing+=("$name")
    fi
  done
}

is_missing() { [[ " ${missing[*]} " == *" $1 "* ]]; }

install_what_is_missing() {
  need curl curl
  need jq jq
  need_postgres
  if [[ $mode == kafka ]]; then
    need_java
    if ! jars_are_current; then need mvn maven; fi
  fi
  if [[ -z $only ]]; then need_cargo; fi
}

# Passwords are set when the data is made. Later changes in .env would only show as failing logins.
check_passwords() {
  local hash
  hash=$(printf '%s\n' "$POSTGRES_PASSWORD" "$APP_WRITER_PASSWORD" "$APP_READER_PASSWORD" "$DEBEZIUM_PASSWORD" \
    "$REPLICATOR_PASSWORD" | sha256sum)
  if [[ -e $state/leader/initialised && $(cat "$state/passwords.sha256" 2>/dev/null) != "$hash" ]]; then
    die "the passwords in .env are not those that this system's data was made with. Put them back, or use --fresh."
  fi
  write_private "$state/passwords.sha256" <<<"$hash"
}

# The replicas' positions are of one source: its topics, or the leader's own stream.
check_mode() {
  if [[ -e $state/leader/initialised && $(native_mode) != "$mode" ]]; then
    die "this system's data was made in $(native_mode) mode. Go on in that mode, or use --fresh, or another --port-offset."
  fi
  printf '%s\n' "$mode" >"$state/mode"
}

start_databases() {
  local name pids=()
  for name in "${database_services[@]}"; do
    if is_missing "$name"; then
      start_service "$name" &
      pids+=($!)
    fi
  done
  for name in "${pids[@]}"; do wait "$name" || exit 1; done
}

start_kafka() {
  local started name
  started=$(now_ms)
  if ! jars_are_current; then
    fetch_jars
    step_done "$started" "jars of debezium/pom.xml fetched"
  fi
  for name in "${kafka_services[@]}"; do
    if is_missing "$name"; then
      start_service "$name"
    fi
  done
}

build_programs() {
  local started log=$state/logs/build.log
  mkdir -p "$state/logs"
  started=$(now_ms)
  if [[ ! -x $(program webapp) ]]; then say "  building the programs, which takes minutes the first time (log: ${log#"$PWD/"})"; fi
  if ! (cd "$repository" && cargo build --release --locked -p replicator -p webapp) >"$log" 2>&1 9>&-; then
    tail -n 30 "$log" >&2
    die "cargo build failed (log: $log)"
  fi
  step_done "$started" "replicator and webapp are built"
}

# Waits for all tracks, and stops waiting as soon as one has failed.
await_tracks() {
  local pid left
  while ((${#tracks[@]})); do
    left=()
    for pid in "${tracks[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then left+=("$pid"); else wait "$pid" || exit 1; fi
    done
    tracks=("${left[@]}")
    sleep "$poll_interval"
  done
}

register_connector() {
  local started
  started=$(now_ms)
  # Restarting: a task that failed while a part of the system was down has its chance now.
  "$here/register-connector.sh" --quiet --restart-failed --connect-url "http://127.0.0.1:$(port_of connect)" 9>&- ||
    failed connect "the connector could not be registered"
  step_done "$started" "connector postgres-connector and its task are RUNNING"
}

# undo STATUS: what this run started is stopped, last first; what ran before stays.
undo() {
  local pid name
  trap - EXIT INT TERM HUP
  for pid in "${tracks[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
  for pid in "${tracks[@]}"; do wait "$pid" 2>/dev/null || true; done
  while read -r name; do
    stop_service "$name"
    warn "  stopped $name again"
  done < <(tac "$started_list")
  rm -f "$started_list"
  warn "The system was not started."
  exit "$1"
}
