#!/usr/bin/env bash
# Registers the connector of debezium/register-postgres.json, or brings it up to date. Run it as often as you like.
#
#   scripts/register-connector.sh [--connect-url URL] [--port-offset N] [--file FILE] [--wait SECONDS]
#                                 [--restart-failed] [--quiet]
#
#   --connect-url URL  the worker (default: http://127.0.0.1:8083, moved by --port-offset)
#   --file FILE        another registration: {"name": ..., "config": {...}}
#   --wait SECONDS     for the worker, and then for connector and tasks to be RUNNING (default 120)
#   --restart-failed   restarts what is FAILED before judging it
#   --quiet            prints problems only
#
# Waits for the worker, validates the configuration and prints each error, creates or updates the connector only when
# the configuration differs, and waits until the connector and its tasks are RUNNING.
# Exit code 1 when the configuration is wrong or something is FAILED, 69 when the worker does not answer.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/common.sh
source "$here/lib/common.sh"
# shellcheck source=scripts/lib/install.sh
source "$here/lib/install.sh"

connect_url='' offset=0 file=$repository/debezium/register-postgres.json wait_seconds=120 restart_failed='' quiet=''
while (($#)); do
  case $1 in
    --connect-url) connect_url=${2:?--connect-url wants a URL} && shift ;;
    --port-offset) offset=${2:?--port-offset wants a number} && shift ;;
    --file) file=${2:?--file wants a path} && shift ;;
    --wait) wait_seconds=${2:?--wait wants seconds} && shift ;;
    --restart-failed) restart_failed=yes ;;
    --quiet) quiet=yes ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    *) die "unknown argument '$1'; --help shows what there is" 2 ;;
  esac
  shift
done
[[ $wait_seconds =~ ^[0-9]+$ ]] || die "--wait wants a number of seconds, not '$wait_seconds'" 2
if [[ -z $connect_url ]]; then
  load_settings
  use_offset "$offset"
  connect_url=http://127.0.0.1:$(port_of connect)
fi
need curl curl
need jq jq

note() { [[ -n $quiet ]] || say "$@"; }

# request METHOD PATH [BODY]: sets $status (000: no answer) and $body.
request() {
  local answer data=()
  if [[ -n ${3:-} ]]; then data=(--data-binary @-); fi
  answer=$(curl -sS --max-time 30 -w '\n%{http_code}' -X "$1" -H 'Content-Type: application/json' \
    ${data[@]+"${data[@]}"} "$connect_url$2" <<<"${3:-}" 2>/dev/null) || true
  status=${answer##*$'\n'}
  body=${answer%$'\n'*}
}

# The worker answers 409 while it distributes connectors anew: ask again.
request_settled() {
  request "$@"
  [[ $status != 409 && $status != 000 ]]
}

message() { jq -r '.message // .' <<<"$body" 2>/dev/null || printf '%s\n' "$body"; }

validate() {
  local plugin wanted
  # The plugin's name is the last part of its class, without "Connector" or with it.
  plugin=$(jq -r '."connector.class" | split(".") | last' <<<"$config")
  wanted=$(jq -c --arg name "$name" '. + {name: $name}' <<<"$config")
  wait_until "$wait_seconds" request_settled PUT "/connector-plugins/$plugin/config/validate" "$wanted" ||
    die "the worker did not validate the configuration within $wait_seconds s"
  [[ $status == 200 ]] || die "validation failed with HTTP $status: $(message)"
  if (($(jq .error_count <<<"$body") > 0)); then
    warn "error: $file is not a valid configuration:"
    jq -r '.configs[].value | select(.errors | length > 0) | .name as $n | .errors[] | "  \($n): \(.)"' <<<"$body" >&2
    exit 1
  fi
}

create_or_update() {
  request GET "/connectors/$name/config"
  if [[ $status == 200 ]] && jq -e --argjson wanted "$config" 'del(.name) == ($wanted | del(.name))' <<<"$body" >/dev/null; then
    note "$name: configuration unchanged"
    return
  fi
  wait_until "$wait_seconds" request_settled PUT "/connectors/$name/config" "$config" ||
    die "the worker did not accept the configuration within $wait_seconds s"
  case $status in
    201) note "$name: created" ;;
    200) note "$name: updated" ;;
    *) die "the worker refused the configuration with HTTP $status: $(message)" ;;
  esac
}

restart_what_failed() {
  request GET "/connectors/$name/status"
  if [[ $status == 200 ]] && jq -e '[.connector, .tasks[]] | any(.state == "FAILED")' <<<"$body" >/dev/null; then
    note "$name: restarting what is FAILED"
    wait_until "$wait_seconds" request_settled POST "/connectors/$name/restart?includeTasks=true&onlyFailed=true" ||
      die "the worker did not restart the connector within $wait_seconds s"
  fi
}

# True when there is a verdict: everything RUNNING, or something FAILED.
settled() {
  request GET "/connectors/$name/status"
  [[ $status == 200 ]] || return 1
  jq -e '(.connector.state == "RUNNING" and (.tasks | length) > 0 and all(.tasks[]; .state == "RUNNING"))
         or any(.connector, .tasks[]; .state == "FAILED")' <<<"$body" >/dev/null
}

judge() {
  local states
  if ! wait_until "$wait_seconds" settled; then
    states=$(jq -r '"connector \(.connector.state), tasks \([.tasks[].state] | join(" "))"' <<<"$body" 2>/dev/null || echo "HTTP $status")
    die "$name is not RUNNING after $wait_seconds s: $states"
  fi
  if jq -e 'any(.connector, .tasks[]; .state == "FAILED")' <<<"$body" >/dev/null; then
    warn "error: $name FAILED:"
    # The first line of a Java stack trace and its causes say what happened; the rest says where in the code.
    jq -r '(.connector, .tasks[]) | select(.state == "FAILED") | .trace // "no trace"' <<<"$body" |
      grep -E '^[^[:space:]]|^Caused by' | head -n 8 | sed 's/^/  /' >&2
    warn "  When the cause is mended: scripts/register-connector.sh --restart-failed"
    exit 1
  fi
  note "$name: connector and task are RUNNING"
}

name=$(jq -er .name "$file") || die "$file has no \"name\"" 2
config=$(jq -ec .config "$file") || die "$file has no \"config\"" 2

wait_until "$wait_seconds" http_ok "$connect_url/health" ||
  die "no Connect worker answers on $connect_url after $wait_seconds s: is the system started? (scripts/start-system.sh)" 69
validate
create_or_update
if [[ -n $restart_failed ]]; then restart_what_failed; fi
judge
