#!/usr/bin/env bash
# Sets everything up and starts the whole system: leader, three replicas, broker, Debezium, replicator, web application.
#
#   scripts/start-system.sh [--mode docker|kafka|direct] [--port-offset N] [--fresh] [--only infrastructure]
#
#   --mode docker          everything in containers, by docker compose (chosen when a Docker engine answers)
#   --mode kafka           no containers: PostgreSQL, Apache Kafka and Debezium as processes of this machine
#   --mode direct          PostgreSQL and the two programs, nothing else: changes come straight from the leader
#   --port-offset N        adds N to every port; a second system beside the first has its own data
#   --fresh                deletes all data of this system first
#   --only infrastructure  without replicator and web application, which a developer starts by hand (not with docker)
#
# Settings come from .env, else from .env.example. Without containers, data, logs and pids are in .run/system.
# Running it again starts what does not run and changes nothing else. scripts/stop-system.sh ends it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"
# shellcheck source=scripts/lib/compose.sh
source "$here/lib/compose.sh"

mode='' offset=0 fresh='' only=''
while (($#)); do
  case $1 in
    --mode) mode=${2:?--mode wants docker, kafka or direct} && shift ;;
    --port-offset) offset=${2:?--port-offset wants a number} && shift ;;
    --fresh) fresh=yes ;;
    --only) only=${2:?--only wants infrastructure} && shift ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    *) die "unknown argument '$1'; --help shows what there is" 2 ;;
  esac
  shift
done
[[ -z $only || $only == infrastructure ]] || die "--only wants 'infrastructure', not '$only'" 2

began=$(now_ms)
load_settings
use_offset "$offset"

kafka_is_possible() { can_install || { find_java && { have mvn || [[ -d $library_directory/runtime ]]; }; }; }

why="as --mode says"
if [[ -z $mode ]]; then
  if docker_answers; then
    mode=docker why="a Docker engine answers"
  elif kafka_is_possible; then
    mode=kafka why="no Docker engine answers, so the parts run as processes"
  else
    mode=direct why="there is neither a Docker engine nor Java 17 with Maven, and it needs neither"
  fi
fi
say "mode $mode: $why (--mode docker|kafka|direct chooses another)"

case $mode in
  docker)
    # shellcheck source=scripts/lib/start-docker.sh
    source "$here/lib/start-docker.sh"
    ;;
  kafka | direct)
    ((BASH_VERSINFO[0] >= 5)) || die "$mode mode needs bash 5 or newer; this is $BASH_VERSION" 69
    # shellcheck source=scripts/lib/start-native.sh
    source "$here/lib/start-native.sh"
    ;;
  *) die "--mode wants docker, kafka or direct, not '$mode'" 2 ;;
esac

start_system

connect=http://localhost:$(port_of connect)
say
say "The system runs ($(human_ms $(($(now_ms) - began))))."
say
if [[ -z $only ]]; then
  say "  web application   http://localhost:$(port_of webapp)"
  say "  demo, 1000 reads  http://localhost:$(port_of webapp)/demo"
  say "  replicator        http://localhost:$(port_of replicator)/v1/replicas  (also /readyz /metrics)"
fi
if [[ $mode != direct ]]; then say "  Debezium Connect  $connect/connectors/postgres-connector/status"; fi
if [[ $mode == docker ]]; then say "  Redpanda Console  http://localhost:$(port_of console)"; fi
say "  PostgreSQL        leader $(port_of leader), replicas $(port_of replica-1) $(port_of replica-2) $(port_of replica-3)"
if [[ $mode != direct ]]; then say "  broker            $(port_of broker)"; fi
if [[ $mode != docker ]]; then say "  data and logs     ${state#"$PWD/"}"; fi
say
if [[ -z $only ]]; then
  say "Three things to try:"
  say "  1. Open http://localhost:$(port_of webapp), write a post, and see which replica shows it."
  say "  2. Open http://localhost:$(port_of webapp)/demo and run the 1000 reads."
  if [[ $mode != docker ]]; then
    say "  3. Stop a replica and read on:  scripts/service.sh stop replica-2$offset_argument  (and start it again)"
  else
    say "  3. Stop a replica and read on:  docker compose stop replica-2  (and start it again)"
  fi
  say
fi
say "To end it: scripts/stop-system.sh$offset_argument"
