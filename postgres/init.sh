#!/usr/bin/env bash
# Makes one database ready to be the leader or a replica: tables, roles, grants, publication or contract.
# The same script runs natively and inside the postgres image; running it again changes nothing.
#
#   postgres/init.sh leader|replica     connects as psql does: PGHOST, PGPORT, PGUSER, PGDATABASE
#
# Passwords come from APP_WRITER_PASSWORD, DEBEZIUM_PASSWORD, REPLICATOR_PASSWORD, APP_READER_PASSWORD.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
role=${1:?usage: init.sh leader|replica}
case $role in
  leader) variables=(app_writer_password debezium_password replicator_password) ;;
  replica) variables=(replicator_password app_reader_password) ;;
  *) echo "init.sh: '$role' is neither leader nor replica" >&2; exit 2 ;;
esac

arguments=(--no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set="database=${PGDATABASE:?PGDATABASE is not set}")
# Values go to psql on its standard input, not as arguments, which other users of the machine could read with ps.
preamble="SET client_min_messages = warning; SET default_transaction_read_only = off;"
for variable in "${variables[@]}"; do
  environment=${variable^^}
  value=${!environment:?$environment is not set}
  value=${value//\\/\\\\}
  preamble+=$'\n'"\\set $variable '${value//\'/\'\'}'"
done

{
  echo "$preamble"
  cat "$here/schema.sql"
  for file in "$here/$role"/*.sql; do cat "$file"; done
} | psql "${arguments[@]}"
