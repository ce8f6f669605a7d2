-- Rows with large values, outside the row and uncompressed, so that their size is what is carried. The same on leader and
-- replicas.
CREATE TABLE bench.documents (
    id       bigint PRIMARY KEY,
    title    text    NOT NULL,
    body     text    NOT NULL,
    revision integer NOT NULL
);
ALTER TABLE bench.documents ALTER COLUMN body SET STORAGE EXTERNAL;
