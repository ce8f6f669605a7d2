-- The statement of the demo's reads.
SELECT current_setting('cluster_name') AS name, inet_server_port() AS port,
               (SELECT id FROM posts ORDER BY created_at DESC, id DESC LIMIT 1) AS newest;
