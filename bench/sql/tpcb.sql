-- The tables of pgbench, as it makes them, in the measured schema. The history has no key and is only added to.
CREATE TABLE bench.pgbench_branches (bid integer PRIMARY KEY, bbalance integer, filler character(88));
CREATE TABLE bench.pgbench_tellers (tid integer PRIMARY KEY, bid integer, tbalance integer, filler character(84));
CREATE TABLE bench.pgbench_accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler character(84));
CREATE TABLE bench.pgbench_history (
    tid    integer,
    bid    integer,
    aid    integer,
    delta  integer,
    mtime  timestamp,
    filler character(22)
);
