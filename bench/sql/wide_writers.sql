-- Writers on the leader, in transactions of 10 rows. Of 20 bodies one has 100 kB, three have 10 kB, the others 2 kB.
CREATE PROCEDURE bench.write_documents(rows bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    FOR low IN 1 .. rows BY 10 LOOP
        INSERT INTO bench.documents (id, title, body, revision)
        SELECT g, 'title ' || g, repeat(md5(g::text), CASE g % 20 WHEN 0 THEN 3200 WHEN 1 THEN 320 WHEN 2 THEN 320
                                                                  WHEN 3 THEN 320 ELSE 64 END), 1
        FROM generate_series(low, least(low + 9, rows)) AS g;
        COMMIT;
    END LOOP;
END
$$;

-- Each row once more; the bodies stay as they are.
CREATE PROCEDURE bench.touch_documents(rows bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    FOR low IN 1 .. rows BY 10 LOOP
        UPDATE bench.documents SET revision = revision + 1, title = 'new ' || title
        WHERE id BETWEEN low AND low + 9;
        COMMIT;
    END LOOP;
END
$$;
