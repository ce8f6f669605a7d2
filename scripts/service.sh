#!/usr/bin/env bash
# One native service of a system that start-system.sh has started (kafka or direct mode).
#
#   scripts/service.sh start|stop|kill|pause|resume|status SERVICE [--port-offset N] [--no-wait]
#
#   start   starts it and waits until it is ready; with --no-wait only starts it
#   stop    asks it to end and waits until it has
#   kill    SIGKILL, as a crash would end it; its children are gone when this returns
#   pause   SIGSTOP to it and its children: it exists and answers nothing; resume continues it
#   status  prints "running PID" or "stopped" (exit code 3)
#
# SERVICE: leader, replica-1, replica-2, replica-3, broker, connect, replicator, webapp
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"
# shellcheck source=scripts/lib/process.sh
source "$here/lib/process.sh"
# shellcheck source=scripts/lib/services.sh
source "$here/lib/services.sh"

verb='' service='' offset=0 no_wait=''
while (($#)); do
  case $1 in
    --port-offset) offset=${2:?--port-offset wants a number} && shift ;;
    --no-wait) no_wait=yes ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    -*) die "unknown argument '$1'; --help shows what there is" 2 ;;
    *) if [[ -z $verb ]]; then verb=$1; elif [[ -z $service ]]; then service=$1; else die "one service at a time" 2; fi ;;
  esac
  shift
done
[[ -n $verb && -n $service ]] || die "usage: service.sh start|stop|kill|pause|resume|status SERVICE [--port-offset N]" 2
is_service "$service" || die "no service '$service'; there are: ${all_services[*]}" 2
load_settings
use_offset "$offset"

require_running() {
  pid=$(running_pid "$service") || die "$service does not run"
}

start() {
  [[ -d $state/$service ]] || die "this system has never been started: scripts/start-system.sh$offset_argument does that"
  if is_running "$service"; then
    say "$service runs already (pid $(running_pid "$service"))"
    return
  fi
  need_for_service "$service"
  require_free_port "$service"
  if [[ -n $no_wait ]]; then
    prepare_service "$service"
    launch_service "$service"
  else
    start_service "$service"
  fi
}

case $verb in
  start) start ;;
  stop) stop_service "$service" ;;
  kill) require_running && kill_process "$service" ;;
  pause) require_running && signal_tree STOP "$pid" ;;
  resume) require_running && signal_tree CONT "$pid" ;;
  status)
    if pid=$(running_pid "$service"); then
      say "running $pid"
    else
      say stopped
      exit 3
    fi
    ;;
  *) die "unknown verb '$verb'; --help shows what there is" 2 ;;
esac
