-- Keeps what is outside the rolled back savepoint only. Subtransactions have xids of their own.
\set user random(1, 50)
BEGIN;
INSERT INTO posts (user_id, content) VALUES ('user-' || :user, 'before the savepoint');
SAVEPOINT first;
INSERT INTO posts (user_id, content) VALUES ('nobody', 'in the savepoint');
UPDATE accounts SET balance = balance + 1000000 WHERE id = :user;
ROLLBACK TO SAVEPOINT first;
INSERT INTO posts (user_id, content) VALUES ('user-' || :user, 'after the savepoint');
SAVEPOINT second;
INSERT INTO posts (user_id, content) VALUES ('user-' || :user, 'in a savepoint that stays');
RELEASE SAVEPOINT second;
COMMIT;
