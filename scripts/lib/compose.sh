# shellcheck shell=bash
# docker compose with this system's project name and ports. Needs common.sh, load_settings and use_offset called.

docker_answers() { have docker && docker compose version >/dev/null 2>&1 && timeout 10 docker info >/dev/null 2>&1; }

# Settings as load_settings reads them: what .env does not set, or all when it is missing, comes from .env.example.
# The offset makes another project, with its own containers and volumes.
compose() {
  local project=cdc variable files=(--env-file .env.example)
  if ((port_offset != 0)); then project+=-$port_offset; fi
  (
    cd "$repository" || exit 1
    if [[ -f .env ]]; then files+=(--env-file .env); fi
    if ((port_offset != 0)); then
      for variable in WEB_PORT LEADER_PORT REPLICA_1_PORT REPLICA_2_PORT REPLICA_3_PORT BROKER_PORT CONNECT_PORT \
        REPLICATOR_PORT CONSOLE_PORT; do
        export "$variable=$((${!variable} + port_offset))"
      done
    fi
    docker compose "${files[@]}" --project-name "$project" "$@"
  )
}

compose_runs() { [[ -n $(compose ps --all --quiet 2>/dev/null) ]]; }
