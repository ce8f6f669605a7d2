-- A small order system, with foreign keys on leader and replicas.
CREATE TABLE bench.customers (
    id     bigint PRIMARY KEY,
    name   text           NOT NULL,
    orders integer        NOT NULL,
    spent  numeric(14, 2) NOT NULL
);
CREATE TABLE bench.orders (
    id          bigint PRIMARY KEY,
    customer_id bigint         NOT NULL REFERENCES bench.customers,
    status      text           NOT NULL CHECK (status IN ('placed', 'changed', 'shipped')),
    total       numeric(12, 2) NOT NULL,
    placed      timestamptz    NOT NULL
);
CREATE INDEX ON bench.orders (customer_id);
CREATE TABLE bench.lines (
    order_id bigint         NOT NULL REFERENCES bench.orders,
    number   integer        NOT NULL,
    product  text           NOT NULL,
    quantity integer        NOT NULL,
    price    numeric(12, 2) NOT NULL,
    PRIMARY KEY (order_id, number)
);
