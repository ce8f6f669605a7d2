-- Changes a primary key, there and back. The note is an unchanged TOAST value that must follow the row.
\set k random(1001, 1020)
UPDATE accounts SET id = CASE WHEN id > 5000 THEN id - 5000 ELSE id + 5000 END WHERE id IN (:k, :k + 5000);
