#!/usr/bin/env bash
# The postgres image runs this once, when the data folder is new: the same init.sh as natively. DATABASE_ROLE says which.
set -euo pipefail
PGUSER=${POSTGRES_USER:-postgres} PGDATABASE=$POSTGRES_DB bash /postgres/init.sh "$DATABASE_ROLE"
