-- Every row once more, in one transaction.
UPDATE bench.accounts
SET balance = balance + 1, note = 'updated ' || md5(note), flags = flags || '{"updated": true}'
