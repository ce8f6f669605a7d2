#!/usr/bin/env bash
# Measures the replicator and its peers side by side on this machine; bench/README.md says what and how.
#
#   scripts/bench.sh [--keep] [--fresh] [--port-offset N] [--replicator FILE] [--webapp FILE] SCENARIO [OPTION...]
#   scripts/bench.sh --smoke
#   scripts/bench.sh publish
#   scripts/bench.sh stop [--volumes]
#   scripts/bench.sh service VERB SERVICE
#
#   SCENARIO           drain, latency, memory or catchup, through Kafka; or bulk (bulk-insert, bulk-update, bulk-delete),
#                      backlog, sizes, wide, orders, tpcb, scaling, direct-latency or copy, whose --systems are compared;
#                      or readers, over HTTP beside pgbench; SCENARIO --help shows its options
#   --smoke            every scenario without the sink, very small: does the benchmark work?
#   --keep             leaves the servers running, so that the next run starts at once
#   --fresh            deletes the data of earlier runs first, the filled topics too
#   --replicator FILE  measures this program instead of building the repository's; --webapp FILE likewise
#   --port-offset N    added to every port of .env (default 6000)
#   publish            puts the reports of .run/bench into bench/results, which is kept in git
#   stop               ends what --keep left running; with --volumes deletes its data
#   service            start, stop, pause or resume one of the servers, as scripts/service.sh does; scenarios use it
#
# Data, logs and pids are in .run/bench/system, reports (Markdown, plots, figures) in .run/bench. Filled topics stay there and are used again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"
# Brings process.sh and services.sh.
# shellcheck source=scripts/lib/stop-native.sh
source "$here/lib/stop-native.sh"

command="scripts/bench.sh $*"
offset=6000 keep='' fresh='' volumes='' smoke='' replicator='' webapp='' with_sink=yes scenario=()
while (($#)); do
  case $1 in
    --port-offset) offset=${2:?--port-offset wants a number} && shift ;;
    --keep) keep=yes ;;
    --fresh) fresh=yes ;;
    --volumes) volumes=yes ;;
    --smoke) smoke=yes ;;
    # Reports are kept: they name the program, and not where it lies on this machine.
    --replicator) replicator=$(realpath "${2:?--replicator wants a file}") command=${command/"$2"/"${2##*/}"} && shift ;;
    --webapp) webapp=$(realpath "${2:?--webapp wants a file}") command=${command/"$2"/"${2##*/}"} && shift ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    -*) die "unknown argument '$1'; --help shows what there is" 2 ;;
    # The rest is the scenario's.
    *) scenario=("$@") && break ;;
  esac
  shift
done
if [[ -n $smoke ]]; then scenario=(smoke); fi
((${#scenario[@]})) || die "which scenario? --help shows what there is" 2
if [[ ${scenario[*]} == 'stop --volumes' ]]; then volumes=yes; fi

# systems_have NAME...: whether --systems names one of them.
systems_have() {
  local name
  for name in "$@"; do
    if [[ " ${scenario[*]} " =~ [\ =,]"$name"[\ ,] ]]; then return 0; fi
  done
  return 1
}

# What measures no sink needs no sink's jars, and what reads no topics needs no broker.
servers=("${infrastructure_services[@]}")
case ${scenario[0]} in
  drain | latency) if [[ " ${scenario[*]} " == *' --sides replicator '* ]]; then with_sink=; fi ;;
  memory | catchup) with_sink= ;;
  smoke) with_sink= ;;
  *)
    systems_have sink sink-unnest || with_sink=
    systems_have kafka sink sink-unnest || servers=("${database_services[@]}")
    ;;
esac
with_broker=
if [[ " ${servers[*]} " == *' broker '* ]]; then with_broker=yes; fi

# Heaps for a load, not for a demo.
BROKER_HEAP=${BROKER_HEAP:-'-Xms256m -Xmx256m'}
CONNECT_HEAP=${CONNECT_HEAP:-'-Xms1g -Xmx1g'}
load_settings
use_offset "$offset"
reports=$run_directory/bench
state=$reports/system
# The JDBC sink beside the source connector, as two folders of plugins.
sink_library=$reports/lib

# The Connect worker finds both.
prepare_connect() {
  mkdir -p "$state/connect" "$sink_library/plugins"
  fill_template "$repository/debezium/connect.properties" BROKER_PORT="$(port_of broker)" \
    CONNECT_PORT="$(port_of connect)" LIB="$library_directory/plugins,$sink_library" >"$state/connect/connect.properties"
}

sink_is_current() {
  [[ $(cat "$sink_library/pom.sha256" 2>/dev/null) == "$(sha256sum <"$repository/bench/sink/pom.xml")" ]]
}

fetch_sink() {
  local started log=$reports/maven.log
  started=$(now_ms)
  rm -rf "$sink_library"
  mvn -q -B -Dstyle.color=never -f "$repository/bench/sink/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$sink_library/plugins/debezium-jdbc" >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "Maven could not fetch the jars of bench/sink/pom.xml (log: $log)"
  }
  sha256sum <"$repository/bench/sink/pom.xml" >"$sink_library/pom.sha256"
  step_done "$started" "jars of bench/sink/pom.xml fetched"
  # A worker that runs has not seen them.
  if is_running connect; then stop_service connect; fi
}

start_servers() {
  local name started
  mkdir -p "$state"
  if [[ -n $with_broker ]] && ! jars_are_current; then
    started=$(now_ms)
    fetch_jars
    step_done "$started" "jars of debezium/pom.xml fetched"
  fi
  if [[ -n $with_sink ]] && ! sink_is_current; then fetch_sink; fi
  for name in "${servers[@]}"; do
    if is_running "$name"; then continue; fi
    require_free_port "$name"
    start_service "$name"
  done
}

build() {
  local started
  started=$(now_ms)
  # All, although not all may be needed: with another choice of crates cargo would compile shared dependencies anew.
  (cd "$repository" && cargo build --quiet --release --locked -p bench -p replicator -p webapp) 9>&-
  replicator=${replicator:-$(program replicator)} webapp=${webapp:-$(program webapp)}
  step_done "$started" "programs built"
}

stop_unless_kept() {
  local status=$?
  if [[ -z $keep ]]; then stop_native 9>&-; fi
  exit "$status"
}

# one_service VERB SERVICE: of servers that run, or have run; who calls it has the lock.
one_service() {
  is_service "$2" || die "no service '$2'; there are: ${infrastructure_services[*]}" 2
  local pid
  case $1 in
    start) need_for_service "$2" && { is_running "$2" || start_service "$2"; } ;;
    stop) stop_service "$2" ;;
    pause | resume)
      pid=$(running_pid "$2") || die "$2 does not run"
      if [[ $1 == pause ]]; then signal_tree STOP "$pid"; else signal_tree CONT "$pid"; fi
      ;;
    *) die "unknown verb '$1'; there are: start stop pause resume" 2 ;;
  esac
}

# Reports that are there replace those of earlier measurements; what was not measured again stays.
publish() {
  local results=$repository/bench/results report name
  compgen -G "$reports/*.md" >/dev/null || die "there are no reports in $reports: run a scenario first"
  mkdir -p "$results"
  for report in "$reports"/*.md; do
    name=$(basename "$report" .md)
    rm -f "$results/$name".{md,json,svg} "$results/$name"-[0-9].svg
    cp "$report" "$reports/$name.json" "$results/"
    for plot in "$reports/$name".svg "$reports/$name"-[0-9].svg; do
      if [[ -e $plot ]] && grep -qF "(${plot##*/})" "$report"; then cp "$plot" "$results/"; fi
    done
    say "  $results/$name.md"
  done
  {
    # shellcheck disable=SC2016 # code in Markdown
    printf '# bench: the numbers last measured\n\nWritten by `scripts/bench.sh publish`; `bench/README.md` says what each means.\n\n'
    printf '| report | made by |\n| --- | --- |\n'
    for report in "$results"/*.md; do
      name=$(basename "$report" .md)
      [[ $name == README ]] || printf '| [%s](%s.md) | %s |\n' "$name" "$name" "$(grep -m 1 '^`scripts/bench.sh' "$report")"
    done
  } >"$results/README.md.new"
  mv "$results/README.md.new" "$results/README.md"
}

case ${scenario[0]} in
  publish)
    publish
    exit
    ;;
  stop)
    stop_native
    exit
    ;;
  service)
    ((${#scenario[@]} == 3)) || die "usage: bench.sh service VERB SERVICE" 2
    one_service "${scenario[1]}" "${scenario[2]}"
    exit
    ;;
esac
need_cargo
need_postgres
if [[ -n $with_broker ]]; then
  need_java
  need curl curl
  need mvn maven
fi
build
if [[ $* != *--help* ]]; then
  mkdir -p "$reports"
  # One run at a time: two would measure each other.
  exec 9>"$reports/lock"
  flock -n 9 || { say "waiting for another run to end" && flock 9; }
  trap stop_unless_kept EXIT
  if [[ -n $fresh ]]; then volumes=yes stop_native 9>&-; fi
  start_servers
fi
export APP_WRITER_PASSWORD APP_READER_PASSWORD DEBEZIUM_PASSWORD REPLICATOR_PASSWORD POSTGRES_PASSWORD
ports=$(for name in leader replica-1 replica-2 replica-3; do port_of "$name"; done | paste -s -d ,)
# A process of this script, not the script: servers have to be stopped after it.
measure() {
  BENCH_STATE=$state BENCH_POSTGRES_BIN=$postgres_bin BENCH_REPORTS=$reports BENCH_COMMAND=$command BENCH_POSTGRES_PORTS=$ports \
    BENCH_PORT_OFFSET=$port_offset BENCH_BROKER_PORT=$(port_of broker) BENCH_CONNECT_PORT=$(port_of connect) \
    BENCH_REPLICATOR_PORT=$(port_of replicator) BENCH_REPLICATOR=$replicator \
    BENCH_WEBAPP_PORT=$(port_of webapp) BENCH_WEBAPP=$webapp "$(program bench)" "$@"
}

if [[ -z $smoke ]]; then
  measure "${scenario[@]}"
else
  reports+=/smoke
  measure drain --rows 3000 --replicas 3 --sides replicator
  measure latency --commits 20 --warm-up 5 --sides replicator
  measure catchup --seconds 2 --around 2 --rate 50
  measure memory --shapes narrow --narrow-rows 5000 --around 1 --freeze-seconds 1
  measure bulk --rows 3000 --repeat 1 --systems native,native-streaming,direct
  measure backlog --transactions 3000 --repeat 1
  measure sizes --rows 3000 --sizes 10,3000 --repeat 1 --systems direct
  measure wide --rows 200 --repeat 1 --systems direct
  measure orders --transactions 1000 --repeat 1 --systems direct,kafka
  measure tpcb --seconds 2 --scale 1 --rates 0 --repeat 1 --systems direct
  measure scaling --replicas 1,6 --rows 2000 --transactions 1000 --repeat 1 --systems native
  measure direct-latency --commits 20 --warm-up 5 --repeat 1 --loads 0,100
  measure copy --megabytes 2 --repeat 1
  measure readers --connections 1,8 --seconds 1 --repeat 1 --posts 100 --demo-reads 100 --requests 400
fi
