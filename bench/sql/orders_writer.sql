-- A writer on the leader. Of ten transactions six place an order with one to five lines, two change one, one ships one and
-- one cancels one; all but the shipping change the customer too. Those that meet no order come first and are few.
CREATE PROCEDURE bench.write_orders(transactions bigint) LANGUAGE plpgsql AS $$
DECLARE
    customer bigint;
    -- An order of the ten transactions before.
    earlier  bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    INSERT INTO bench.customers SELECT g, 'customer ' || g, 0, 0 FROM generate_series(0, 999) AS g;
    COMMIT;
    FOR n IN 0 .. transactions - 1 LOOP
        earlier := n - 16;
        CASE
            WHEN n % 10 < 6 THEN
                customer := n * 7919 % 1000;
                INSERT INTO bench.orders
                VALUES (n, customer, 'placed', 10 * (1 + n % 5), timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second');
                INSERT INTO bench.lines SELECT n, g, 'product ' || (n + g) % 500, 1, 10 FROM generate_series(0, n % 5) AS g;
                UPDATE bench.customers SET orders = orders + 1, spent = spent + 10 * (1 + n % 5) WHERE id = customer;
            WHEN n % 10 < 8 THEN
                UPDATE bench.lines SET quantity = quantity + 1 WHERE order_id = earlier AND number = 0;
                UPDATE bench.orders SET status = 'changed', total = total + 10 WHERE id = earlier
                RETURNING customer_id INTO customer;
                UPDATE bench.customers SET spent = spent + 10 WHERE id = customer;
            WHEN n % 10 = 8 THEN
                UPDATE bench.orders SET status = 'shipped' WHERE id = earlier;
            ELSE
                DELETE FROM bench.lines WHERE order_id = earlier;
                DELETE FROM bench.orders WHERE id = earlier RETURNING customer_id INTO customer;
                UPDATE bench.customers SET orders = orders - 1 WHERE id = customer;
        END CASE;
        COMMIT;
    END LOOP;
END
$$;
