-- The table that is measured: six narrow columns of the types that most tables have. The same on leader and replicas.
CREATE SCHEMA bench;
CREATE TABLE bench.accounts (
    id      bigint PRIMARY KEY,
    owner   text           NOT NULL,
    balance numeric(12, 2) NOT NULL,
    note    text,
    created timestamptz    NOT NULL,
    flags   jsonb          NOT NULL
);
