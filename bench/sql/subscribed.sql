-- Has this replica's subscription all of its rows, and a worker that applies? There is one subscription.
SELECT EXISTS (SELECT FROM pg_stat_subscription WHERE pid IS NOT NULL AND relid IS NULL)
   AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r')
