-- Moves money between two accounts: two updates and an insert. Accounts are locked in the order of their ids.
\set a random(1, 100)
\set b 1 + (:a + random(0, 98)) % 100
\set low least(:a, :b)
\set high greatest(:a, :b)
\set cents random(1, 500)
\set signed case when :a < :b then -:cents else :cents end
BEGIN;
UPDATE accounts SET balance = balance + :signed / 100.0 WHERE id = :low;
UPDATE accounts SET balance = balance - :signed / 100.0 WHERE id = :high;
INSERT INTO transfers (src, dst, amount) VALUES (:a, :b, :cents / 100.0);
COMMIT;
