# shellcheck shell=bash
# start_system for docker mode. Sourced by start-system.sh, whose options it reads: $fresh, $only. Needs compose.sh.

start_system() {
  local started service
  [[ -z $only ]] || die "--only is for kafka mode; with Docker: docker compose up -d --wait leader replica-1 ..." 2
  docker_answers || die "no Docker engine with docker compose answers: start it, or use --mode kafka" 69
  require_plain POSTGRES_PASSWORD APP_WRITER_PASSWORD APP_READER_PASSWORD DEBEZIUM_PASSWORD REPLICATOR_PASSWORD \
    WEB_SESSION_KEY
  if [[ ! -f $repository/.env ]]; then
    cp "$repository/.env.example" "$repository/.env"
    say "  copied .env.example to .env, which docker compose reads"
  fi
  if [[ -n $fresh ]]; then compose --profile '*' down --volumes; fi
  if ! compose_runs; then
    for service in leader replica-1 replica-2 replica-3 broker connect console replicator webapp; do
      if port_is_open "$(port_of "$service")"; then
        die "port $(port_of "$service"), which $service needs, is taken by $(port_owner "$(port_of "$service")"). End that process, or choose other ports with --port-offset N." 69
      fi
    done
  fi
  started=$(now_ms)
  if ! compose up --detach --build --wait; then
    warn "--- containers that are not well"
    compose ps --all >&2
    compose logs --tail 15 register replicator webapp connect >&2
    die "docker compose up failed; 'docker compose logs SERVICE' says more, scripts/stop-system.sh$offset_argument ends what runs"
  fi
  step_done "$started" "containers are up and healthy, the connector is registered"
}
