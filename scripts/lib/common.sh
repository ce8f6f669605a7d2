# shellcheck shell=bash
# shellcheck disable=SC2034 # it sets what its users read
# Shared by the scripts beside this folder: where things are, the settings, ports, messages. Source it, don't run it.
# Sourcing it sets: repository, run_directory, library_directory.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
run_directory=$repository/.run
# Jars and other downloads, shared by all port offsets.
library_directory=$run_directory/lib

# Every service of the native system, in the order in which they start. Direct mode has no broker and no Connect.
database_services=(leader replica-1 replica-2 replica-3)
kafka_services=(broker connect)
program_services=(replicator webapp)
infrastructure_services=("${database_services[@]}" "${kafka_services[@]}")
all_services=("${infrastructure_services[@]}" "${program_services[@]}")

# Polling interval of every wait, in seconds.
poll_interval=0.1

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
  warn "error: $1"
  exit "${2:-1}"
}

# Milliseconds since some fixed moment. EPOCHREALTIME needs bash 5; the fallback counts whole seconds.
now_ms() {
  if [[ -n ${EPOCHREALTIME:-} ]]; then
    local micros=${EPOCHREALTIME/[.,]/}
    echo $((micros / 1000))
  else
    echo "$(date +%s)000"
  fi
}

# 1234 -> "1.2 s", 75000 -> "1 min 15 s"
human_ms() {
  local ms=$1
  if ((ms < 60000)); then
    printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
  else
    printf '%d min %d s' $((ms / 60000)) $((ms / 1000 % 60))
  fi
}

# step_done STARTED_MS TEXT: the one line that a finished step prints.
step_done() {
  local elapsed=$(($(now_ms) - $1))
  printf '  %-64s %10s\n' "$2" "$(human_ms "$elapsed")"
}

have() { command -v "$1" >/dev/null 2>&1; }

# wait_until SECONDS COMMAND...: until it succeeds; 1 when the time is over.
wait_until() {
  local deadline=$(($(now_ms) + $1 * 1000))
  shift
  until "$@"; do
    (($(now_ms) < deadline)) || return 1
    sleep "$poll_interval"
  done
}

# Settings: the shell's environment before .env before .env.example. They become shell variables and are not exported:
# each program is given only what it needs.
load_settings() {
  local file
  for file in "$repository/.env" "$repository/.env.example"; do
    if [[ -f $file ]]; then read_settings "$file"; fi
  done
}

read_settings() {
  local line name value
  while IFS= read -r line || [[ -n $line ]]; do
    line=${line%$'\r'}
    [[ $line =~ ^([A-Z][A-Z0-9_]*)=(.*)$ ]] || continue
    name=${BASH_REMATCH[1]}
    value=${BASH_REMATCH[2]}
    if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
    if [[ -z ${!name+set} ]]; then printf -v "$name" '%s' "$value"; fi
  done <"$1"
}

# require_plain NAME...: settings that are put as they are into URLs and quoted strings.
require_plain() {
  local LC_ALL=C name
  for name in "$@"; do
    [[ ${!name} =~ ^[A-Za-z0-9._~-]+$ ]] ||
      die "$name (in .env or the environment) may hold letters, digits and - . _ ~ only, and must not be empty" 78
  done
}

# use_offset N: moves every port and picks the state folder that belongs to it.
use_offset() {
  port_offset=$1
  [[ $port_offset =~ ^[0-9]+$ ]] || die "--port-offset wants a number, not '$port_offset'" 2
  port_offset=$((10#$port_offset))
  ((port_offset <= 40000)) || die "--port-offset must be at most 40000" 2
  state=$run_directory/system
  if ((port_offset != 0)); then state+=-$port_offset; fi
  # Arguments that repeat this choice, for the messages.
  offset_argument=
  if ((port_offset != 0)); then offset_argument=" --port-offset $port_offset"; fi
}

# The port of a service, the offset included.
port_of() {
  local base
  case $1 in
    leader) base=$LEADER_PORT ;;
    replica-1) base=$REPLICA_1_PORT ;;
    replica-2) base=$REPLICA_2_PORT ;;
    replica-3) base=$REPLICA_3_PORT ;;
    broker) base=$BROKER_PORT ;;
    controller) base=$CONTROLLER_PORT ;;
    connect) base=$CONNECT_PORT ;;
    console) base=$CONSOLE_PORT ;;
    replicator) base=$REPLICATOR_PORT ;;
    webapp) base=$WEB_PORT ;;
    *) die "no service '$1'" 2 ;;
  esac
  echo $((base + port_offset))
}

port_is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Who listens on a port, as well as this machine and these rights can tell.
port_owner() {
  local owner=
  if have ss; then
    owner=$(ss -ltnpH "sport = :$1" 2>/dev/null | sed -n 's/.*users:((\("[^"]*"\),pid=\([0-9]*\).*/\1 (pid \2)/p' | head -n 1)
  elif have lsof; then
    owner=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print "\"" $1 "\" (pid " $2 ")" }')
  fi
  echo "${owner:-a process that this user cannot see}"
}

# url_encode TEXT: for passwords inside URLs.
url_encode() {
  local LC_ALL=C text=$1 encoded='' character i
  for ((i = 0; i < ${#text}; i++)); do
    character=${text:i:1}
    case $character in
      [a-zA-Z0-9._~-]) encoded+=$character ;;
      *) printf -v character '%%%02X' "'$character" && encoded+=$character ;;
    esac
  done
  echo "$encoded"
}

# The comment at the top of a script is its help text.
print_help() {
  awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$1"
}

# replicas_are_live: every replica is filled and being applied to, as the replicator says.
replicas_are_live() {
  curl -fsS --max-time 2 "http://127.0.0.1:$(port_of replicator)/v1/replicas" 2>/dev/null |
    jq -e '[.replicas[].state] | length > 0 and all(. == "live")' >/dev/null 2>&1
}

http_ok() { curl -fsS -o /dev/null --max-time 2 "$1" 2>/dev/null; }
