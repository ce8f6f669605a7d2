# shellcheck shell=bash
# docker compose with this system's project name and ports. Needs common.sh, load_settings and use_offset called.

# The offset makes another project, with its own containers and volumes.
compose() {
  local project=cdc variable
  if ((port_offset != 0)); then project+=-$port_offset; fi
  (
    cd "$repository" || exit 1
    if ((port_offset != 0)); then
      for variable in WEB_PORT LEADER_PORT REPLICA_1_PORT REPLICA_2_PORT REPLICA_3_PORT BROKER_PORT CONNECT_PORT \
        REPLICATOR_PORT CONSOLE_PORT; do
        export "$variable=$((${!variable} + port_offset))"
      done
    fi
    docker compose --project-name "$project" "$@"
  )
}

compose_runs() { [[ -n $(compose ps --all --quiet 2>/dev/null) ]]; }
