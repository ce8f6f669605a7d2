#!/usr/bin/env bash
# Attacks a fresh system while it is written to and read from, and demands that no snapshot was torn and all ends equal.
#
#   scripts/chaos.sh [MINUTES] [--source kafka|direct] [--seed N] [--port-offset N]
#
#   MINUTES          for how long faults are injected (default 2; a real run takes 20)
#   --source SOURCE  kafka (the default): through Debezium and the broker; direct: the leader's own stream, no broker
#   --seed N         repeats the choices of an earlier run, which printed it
#   --port-offset N  the system's ports (default 3000); its data is deleted at the start and at the end
#
# Kills and pauses replicators, replicas, Connect and the broker (direct: the leader), cuts and freezes connections, fills a
# replica's disk.
# Ends with an error at any violation; then the logs are kept in .run/chaos-SEED.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"

minutes=2
while (($#)); do
  case $1 in
    --source) export E2E_SOURCE=${2:?--source wants kafka or direct} && shift ;;
    --seed) export E2E_SEED=${2:?--seed wants a number} && shift ;;
    --port-offset) export E2E_PORT_OFFSET=${2:?--port-offset wants a number} && shift ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    *) minutes=$1 ;;
  esac
  shift
done
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "MINUTES must be a number, not '$minutes'" 2

need_cargo
need_postgres
need curl curl
need jq jq
if [[ ${E2E_SOURCE:-kafka} != direct ]]; then
  need_java
  need mvn maven
fi
export E2E_CHAOS_MINUTES=$minutes
cd "$repository"
exec cargo test --locked --release --workspace --test system -- chaos
