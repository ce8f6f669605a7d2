# shellcheck shell=bash
# stop_native: ends the processes of $state. Sourced by stop-system.sh, whose option $volumes it reads.

# shellcheck source=scripts/lib/process.sh
source "$here/lib/process.sh"
# shellcheck source=scripts/lib/services.sh
source "$here/lib/services.sh"

# Readers before what they read from; inside a group, all at once.
stop_native() {
  local name any=
  for name in "${all_services[@]}"; do if is_running "$name"; then any=yes; fi; done
  if [[ -z $any ]]; then say "  nothing runs in $state"; fi
  stop_group webapp replicator
  stop_group connect
  stop_group broker "${database_services[@]}"
  if [[ -n $volumes ]]; then delete_data; fi
}

stop_group() {
  local name stopping=()
  for name in "$@"; do
    stop_one "$name" &
    stopping+=($!)
  done
  # These alone: services that the same shell has started are its children too, and would be waited for until they end.
  wait "${stopping[@]}" || true
}

stop_one() {
  local started
  if is_stopped "$1"; then
    forget "$1"
    return
  fi
  started=$(now_ms)
  stop_service "$1"
  step_done "$started" "stopped $1"
}

# Data that had to live elsewhere is behind a link (make_postgres_home).
delete_data() {
  local name
  for name in "${database_services[@]}"; do
    if [[ -L $state/$name ]]; then
      rm -rf "$(readlink "$state/$name")"
      rmdir "$(dirname "$(readlink "$state/$name")")" 2>/dev/null || true
    fi
  done
  rm -rf "$state"
  say "  deleted $state"
}
