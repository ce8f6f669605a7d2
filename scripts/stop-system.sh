#!/usr/bin/env bash
# Ends the system that start-system.sh started: exactly its processes or containers, nothing else.
#
#   scripts/stop-system.sh [--volumes] [--port-offset N]
#
#   --volumes        deletes its data too
#   --port-offset N  the system that was started with this offset
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"

offset=0 volumes=''
while (($#)); do
  case $1 in
    --volumes) volumes=yes ;;
    --port-offset) offset=${2:?--port-offset wants a number} && shift ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    *) die "unknown argument '$1'; --help shows what there is" 2 ;;
  esac
  shift
done
load_settings
use_offset "$offset"
# shellcheck source=scripts/lib/compose.sh
source "$here/lib/compose.sh"

stop_containers() {
  if ! have docker; then
    if [[ -z $native ]]; then say "  nothing runs: there is neither $state nor Docker"; fi
  elif ! docker_answers; then
    warn "  no Docker engine with docker compose answers: its containers and volumes, if there are any, stay"
  elif [[ -n $volumes ]]; then
    # Volumes outlive their containers, so there may be data where nothing runs.
    compose --profile '*' down --volumes
  elif compose_runs; then
    compose --profile '*' down
  elif [[ -z $native ]]; then
    say "  nothing runs in Docker, and there is no $state"
  fi
}

native=''
if [[ -d $state ]]; then
  native=yes
  # shellcheck source=scripts/lib/stop-native.sh
  source "$here/lib/stop-native.sh"
  stop_native
fi
stop_containers
