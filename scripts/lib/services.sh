# shellcheck shell=bash
# The native services: how each is prepared, started, known to be ready, and stopped. Needs common.sh, process.sh and
# install.sh, and load_settings and use_offset called.

database=app
# In seconds: how long a service may take until it answers, and until it has ended.
declare -A ready_within=([leader]=60 [replica-1]=60 [replica-2]=60 [replica-3]=60 [broker]=60 [connect]=120
  [replicator]=180 [webapp]=60)
stop_within=30

is_service() {
  local name
  for name in "${all_services[@]}"; do [[ $1 != "$name" ]] || return 0; done
  return 1
}

is_postgres() { [[ $1 == leader || $1 == replica-? ]]; }

# --- PostgreSQL ---------------------------------------------------------------------------------------------------

# A server from PG_BIN may come without clients; those of another version serve as well.
postgres_client() {
  if [[ -x $postgres_bin/$1 ]]; then printf '%s\n' "$postgres_bin/$1"; else command -v "$1"; fi
}

# As root, the servers run as the user postgres: PostgreSQL refuses to run as root.
postgres_user() {
  as_postgres=()
  if [[ $(id -u) == 0 ]]; then
    id postgres >/dev/null 2>&1 || die "the user postgres does not exist; PostgreSQL does not run as root"
    as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups --)
  fi
}

# The real folder of one server: what $state/NAME is, or what it links to.
postgres_home() { readlink -f "$state/$1"; }

# A clone may live where the user postgres cannot go (/root). Then the data lives under /var/tmp, and $state/NAME is a
# link to it.
make_postgres_home() {
  local home=$state/$1 elsewhere
  elsewhere=/var/tmp/cdc-$(cksum <<<"$state" | cut -d ' ' -f 1)
  if [[ -L $home && $(readlink "$home") == "$elsewhere"/* ]]; then require_own_folder "$elsewhere"; fi
  if [[ -d $home ]]; then return; fi
  rm -f "$home"
  if (cd / && "${as_postgres[@]}" test -x "$state"); then
    mkdir "$home"
  else
    # Said once: by whoever makes the folder.
    if mkdir -m 711 "$elsewhere" 2>/dev/null; then
      say "  note: the user postgres cannot enter $state, so PostgreSQL's data is in $elsewhere"
    fi
    require_own_folder "$elsewhere"
    # Data without a link is of a $state that somebody has removed, the broker's topics with it: it is not adopted.
    rm -rf "${elsewhere:?}/$1"
    mkdir "$elsewhere/$1"
    ln -s "$elsewhere/$1" "$home"
  fi
  if [[ $(id -u) == 0 ]]; then chown postgres: "$home/."; fi
  chmod 700 "$home/."
}

# Everybody may make folders under /var/tmp, so one is used only when nobody else can have made it.
require_own_folder() {
  [[ ! -L $1 && -d $1 && -O $1 ]] ||
    die "$1, where PostgreSQL's data belongs, is missing, a link, or somebody else's: remove it, then use --fresh"
}

# Data folders are made once; a half-made one has no mark and is made again.
prepare_postgres() {
  local name=$1 home major sync=()
  postgres_user
  make_postgres_home "$name"
  home=$(postgres_home "$name")
  major=$("$postgres_bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
  if [[ -e $home/initialised ]]; then
    if [[ $(<"$home/data/PG_VERSION") != "$major" ]]; then
      die "$name's data was made by PostgreSQL $(<"$home/data/PG_VERSION") and this is $major: --fresh starts from empty data"
    fi
    return
  fi
  rm -rf "$home/data"
  # A replica can always be made again, so its first files need not wait for the disk.
  if [[ $name != leader ]]; then sync=(--no-sync); fi
  (
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" >"$home/password"
  )
  if [[ $(id -u) == 0 ]]; then chown postgres "$home/password"; fi
  (cd / && "${as_postgres[@]}" "$postgres_bin/initdb" --pgdata="$home/data" --username=postgres --encoding=UTF8 \
    --locale=C.UTF-8 --auth=scram-sha-256 --pwfile="$home/password" "${sync[@]}") >>"$(log_file "$name")" 2>&1 9>&- ||
    failed "$name" "initdb failed"
  rm -f "$home/password"
}

launch_postgres() {
  local name=$1 home role=replica
  home=$(postgres_home "$name")
  if [[ $name == leader ]]; then role=leader; fi
  postgres_user
  remove_stale_lock "$home/data"
  # A copy, because the user postgres may not be able to read the repository.
  install -m 644 "$repository/postgres/$role/postgresql.conf" "$home/postgresql.conf"
  # TCP only: the path of a Unix socket is limited to 107 bytes, a clone's is not.
  launch "$name" "${as_postgres[@]}" "$postgres_bin/postgres" -D "$home/data" -c config_file="$home/postgresql.conf" \
    -c port="$(port_of "$name")" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c cluster_name="$name"
}

# After a kill, postmaster.pid stays. PostgreSQL ignores it unless another process has the pid by now.
remove_stale_lock() {
  local pid
  [[ -e $1/postmaster.pid ]] || return 0
  pid=$(head -n 1 "$1/postmaster.pid")
  if [[ ! -e /proc/$pid/cmdline ]] || ! tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "-D $1"; then
    rm -f "$1/postmaster.pid"
  fi
}

# Database, tables, roles and grants, once: a second run would bring back seed rows that somebody has deleted.
initialise_postgres() {
  local name=$1 role=replica
  [[ ! -e $state/$name/initialised ]] || return 0
  if [[ $name == leader ]]; then role=leader; fi
  (
    export PGHOST=127.0.0.1 PGUSER=postgres PGPASSWORD=$POSTGRES_PASSWORD PGDATABASE=$database PGPORT
    export APP_WRITER_PASSWORD APP_READER_PASSWORD DEBEZIUM_PASSWORD REPLICATOR_PASSWORD
    PGPORT=$(port_of "$name")
    PATH=$postgres_bin:$PATH
    # An earlier run may have been killed between the two.
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname=postgres <<SQL
SELECT 'CREATE DATABASE $database' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$database') \gexec
SQL
    "$repository/postgres/init.sh" "$role"
  ) >>"$(log_file "$name")" 2>&1 9>&- || failed "$name" "postgres/init.sh $role failed"
  touch "$state/$name/initialised"
}

# --- Kafka --------------------------------------------------------------------------------------------------------

java_options=(-XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Xshare:auto
  "-Dlog4j2.configurationFile=$repository/debezium/log4j2.yaml")

jars_are_current() {
  [[ $(cat "$library_directory/poms.sha256" 2>/dev/null) == "$(poms_hash)" ]]
}

poms_hash() { cat "$repository"/debezium/pom.xml "$repository"/debezium/*/pom.xml | sha256sum | cut -d ' ' -f 1; }

# Jars arrive in a folder of their own that takes the old one's place at the end, so that an interrupted download leaves
# nothing half-made.
fetch_jars() {
  local fresh=$run_directory/lib.fetching log=$run_directory/maven.log
  rm -rf "$fresh"
  mkdir -p "$fresh"
  if ! mvn -q -B -Dstyle.color=never -f "$repository/debezium/pom.xml" dependency:copy-dependencies -Dlib="$fresh" >"$log" 2>&1 9>&-; then
    tail -n 20 "$log" >&2
    die "Maven could not fetch the jars of debezium/pom.xml (log: $log)"
  fi
  poms_hash >"$fresh/poms.sha256"
  rm -rf "$library_directory"
  mv "$fresh" "$library_directory"
}

# fill_template FILE NAME=VALUE...: prints FILE with each {NAME} replaced.
fill_template() {
  local text assignment
  text=$(<"$1")
  shift
  for assignment in "$@"; do text=${text//"{${assignment%%=*}}"/"${assignment#*=}"}; done
  printf '%s\n' "$text"
}

prepare_broker() {
  local home=$state/broker id
  mkdir -p "$home"
  fill_template "$repository/redpanda/broker.properties" BROKER_PORT="$(port_of broker)" \
    CONTROLLER_PORT="$(port_of controller)" DATA="$home/data" >"$home/broker.properties"
  if [[ -e $home/data/meta.properties ]]; then return; fi
  rm -rf "$home/data"
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c 1-22)
  "$java" -Xmx64m -XX:TieredStopAtLevel=1 "${java_options[@]}" -cp "$library_directory/runtime/*" \
    kafka.tools.StorageTool format -t "$id" -c "$home/broker.properties" >>"$(log_file broker)" 2>&1 9>&- ||
    failed broker "formatting the broker's data folder failed"
}

launch_broker() {
  local heap
  read -r -a heap <<<"$BROKER_HEAP"
  launch broker "$java" "${heap[@]}" "${java_options[@]}" -cp "$library_directory/runtime/*" \
    kafka.Kafka "$state/broker/broker.properties"
}

# The broker answers an ApiVersions request (key 18, version 0, correlation id 1, no client id).
broker_answers() {
  local answer
  port_is_open "$(port_of broker)" || return 1
  answer=$(
    exec 3<>"/dev/tcp/127.0.0.1/$(port_of broker)" || exit 1
    printf '\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff' >&3
    # Length and correlation id.
    timeout 2 head -c 8 <&3 | od -An -v -t x1 | tr -d ' \n'
  ) 2>/dev/null
  [[ $answer == *00000001 ]]
}

prepare_connect() {
  mkdir -p "$state/connect"
  fill_template "$repository/debezium/connect.properties" BROKER_PORT="$(port_of broker)" \
    CONNECT_PORT="$(port_of connect)" LIB="$library_directory" >"$state/connect/connect.properties"
}

launch_connect() {
  local heap
  read -r -a heap <<<"$CONNECT_HEAP"
  (
    # What register-postgres.json may ask for.
    export LEADER_HOST=127.0.0.1 LEADER_PORT DEBEZIUM_PASSWORD
    LEADER_PORT=$(port_of leader)
    launch connect "$java" "${heap[@]}" "${java_options[@]}" -cp "$library_directory/runtime/*" \
      org.apache.kafka.connect.cli.ConnectDistributed "$state/connect/connect.properties"
  )
}

# --- Our programs -------------------------------------------------------------------------------------------------

program() { echo "${CARGO_TARGET_DIR:-$repository/target}/release/$1"; }

# database_url USER PASSWORD SERVICE
database_url() { echo "postgres://$1:$(url_encode "$2")@127.0.0.1:$(port_of "$3")/$database"; }

# The [[replicas]] of a configuration file: replica_tables USER PASSWORD
replica_tables() {
  local name
  for name in replica-1 replica-2 replica-3; do
    printf '\n[[replicas]]\nname = "%s"\nurl = "%s"\n' "$name" "$(database_url "$1" "$2" "$name")"
  done
}

# write_private FILE: standard input into a file that only its owner reads; it holds passwords.
write_private() {
  mkdir -p "$(dirname "$1")"
  (
    umask 077
    cat >"$1.new"
  )
  mv "$1.new" "$1"
}

# The mode that a system was started in.
native_mode() { cat "$state/mode" 2>/dev/null || echo kafka; }

# The part of replicator.toml that says where changes come from.
replicator_source() {
  if [[ $(native_mode) == direct ]]; then
    cat <<TOML
[source]
kind = "postgres"
# As in postgres/leader/40-publication.sql.
publication = "cdc"
TOML
  else
    cat <<TOML
[source]
brokers = "127.0.0.1:$(port_of broker)"
topic_prefix = "app"
# As in debezium/register-postgres.json.
placeholder = "unchanged-5d2c0a6f9b7e4c1d8a3f60b2e94d7158"

[connect]
url = "http://127.0.0.1:$(port_of connect)"
connector = "postgres-connector"
TOML
  fi
}

prepare_replicator() {
  if [[ -n $REPLICATOR_ADMIN_TOKEN ]]; then require_plain REPLICATOR_ADMIN_TOKEN; fi
  write_private "$state/replicator/replicator.toml" <<TOML
# Written by scripts/start-system.sh at each start: changes here are lost.
$(replicator_source)

[leader]
url = "$(database_url replicator "$REPLICATOR_PASSWORD" leader)"

[http]
bind = "127.0.0.1:$(port_of replicator)"
admin_token = "$REPLICATOR_ADMIN_TOKEN"
$(replica_tables replicator "$REPLICATOR_PASSWORD")
TOML
}

# What the status page can look at in kafka mode only.
webapp_sees_kafka() {
  if [[ $(native_mode) != direct ]]; then
    printf 'connect_url = "http://127.0.0.1:%s"\nbroker = "127.0.0.1:%s"\n' "$(port_of connect)" "$(port_of broker)"
  fi
}

prepare_webapp() {
  require_plain WEB_SESSION_KEY
  if [[ -n $WEB_ADMIN_TOKEN ]]; then require_plain WEB_ADMIN_TOKEN; fi
  if [[ -n $REPLICATOR_ADMIN_TOKEN ]]; then require_plain REPLICATOR_ADMIN_TOKEN; fi
  write_private "$state/webapp/webapp.toml" <<TOML
# Written by scripts/start-system.sh at each start: changes here are lost.
bind = "127.0.0.1:$(port_of webapp)"

[leader]
url = "$(database_url app_writer "$APP_WRITER_PASSWORD" leader)"

[session]
key = "$WEB_SESSION_KEY"

# Empty: nothing can be operated from the pages.
[admin]
token = "$WEB_ADMIN_TOKEN"
replicator_token = "$REPLICATOR_ADMIN_TOKEN"

[status]
replicator_url = "http://127.0.0.1:$(port_of replicator)"
start_command = "scripts/service.sh start {service}$offset_argument"
$(webapp_sees_kafka)
$(replica_tables app_reader "$APP_READER_PASSWORD")
TOML
}

launch_program() {
  local binary
  binary=$(program "$1")
  [[ -x $binary ]] || die "$binary does not exist: build it with 'cargo build --release -p $1'"
  launch "$1" "$binary" --config "$state/$1/$1.toml"
}

# --- All services -------------------------------------------------------------------------------------------------

# prepare_service NAME: files and data that must exist before it is launched.
prepare_service() {
  mkdir -p "$state/logs" "$state/pids"
  if is_postgres "$1"; then prepare_postgres "$1"; else "prepare_$1"; fi
}

launch_service() {
  case $1 in
    leader | replica-?) launch_postgres "$1" ;;
    broker) launch_broker ;;
    connect) launch_connect ;;
    *) launch_program "$1" ;;
  esac
}

service_is_ready() {
  case $1 in
    leader | replica-?) "$(postgres_client pg_isready)" -q -h 127.0.0.1 -p "$(port_of "$1")" -d "$database" ;;
    broker) broker_answers ;;
    connect) http_ok "http://127.0.0.1:$(port_of connect)/health" ;;
    *) http_ok "http://127.0.0.1:$(port_of "$1")/readyz" ;;
  esac
}

# failed NAME TEXT: the end of the service's log, then the end of this shell.
failed() {
  {
    echo "--- last lines of $(log_file "$1")"
    tail -n 20 "$(log_file "$1")"
    echo "---"
  } >&2
  die "$1: $2"
}

# Waits until the service answers; at once an error when its process ends.
await_ready() {
  local name=$1 deadline
  deadline=$(($(now_ms) + ready_within[$name] * 1000))
  until service_is_ready "$name"; do
    is_running "$name" || failed "$name" "ended while it was starting"
    if (($(now_ms) >= deadline)); then failed "$name" "did not become ready within ${ready_within[$name]} s"; fi
    sleep "$poll_interval"
  done
}

require_free_port() {
  local port
  port=$(port_of "$1")
  if port_is_open "$port"; then
    die "port $port, which $1 needs, is taken by $(port_owner "$port"). End that process, or choose other ports with --port-offset N." 69
  fi
}

# start_service NAME: not running -> ready. Prints how long that took, the preparation included.
start_service() {
  local started
  started=$(now_ms)
  prepare_service "$1"
  launch_service "$1"
  await_ready "$1"
  if is_postgres "$1"; then initialise_postgres "$1"; fi
  step_done "$started" "$1 is ready on 127.0.0.1:$(port_of "$1")"
}

stop_service() {
  local signal=TERM
  # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
  if is_postgres "$1"; then signal=INT; fi
  stop_process "$1" "$signal" "$stop_within"
}

# The programs that starting or asking a service needs.
need_for_service() {
  case $1 in
    leader | replica-?) need_postgres ;;
    broker | connect) need_java && need curl curl ;;
    *) need curl curl ;;
  esac
}
