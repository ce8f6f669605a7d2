-- Counts each table's rows and the sum of their weights into lab.tally, statement by statement.
CREATE FUNCTION lab.count_rows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_rows   bigint := 0;
    v_weight bigint := 0;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE lab.tally SET rows = 0, weight = 0 WHERE name = TG_ARGV[0];
        RETURN NULL;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        SELECT count(*), coalesce(sum(weight), 0) INTO v_rows, v_weight FROM came;
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        SELECT v_rows - count(*), v_weight - coalesce(sum(weight), 0) INTO v_rows, v_weight FROM went;
    END IF;
    IF v_rows <> 0 OR v_weight <> 0 THEN
        UPDATE lab.tally SET rows = rows + v_rows, weight = weight + v_weight WHERE name = TG_ARGV[0];
    END IF;
    RETURN NULL;
END $$;
