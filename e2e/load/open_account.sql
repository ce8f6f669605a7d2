-- A new account and the first transfer that refers to it, in one transaction: foreign keys across one commit.
\set id random(10001, 1000000000)
\set src random(1, 100)
BEGIN;
INSERT INTO accounts (id, owner, balance) VALUES (:id, 'newcomer', 1000);
UPDATE accounts SET balance = balance - 1 WHERE id = :src;
UPDATE accounts SET balance = balance + 1 WHERE id = :id;
INSERT INTO transfers (src, dst, amount) VALUES (:src, :id, 1);
COMMIT;
