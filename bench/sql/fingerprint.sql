-- Equal on two servers when the rows are: their number, a sum that a reader can check, and one over every column.
SELECT count(*), coalesce(sum(balance), 0)::text, coalesce(sum(hashtextextended(a::text, 0)::numeric), 0)::text
FROM bench.accounts AS a
