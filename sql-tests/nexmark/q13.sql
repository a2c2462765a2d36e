-- Bounded side input: each bid beside a row of a table, side_input (key BIGINT PRIMARY KEY, value VARCHAR), keys 0 to 9999.
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid AS b JOIN side_input AS s ON mod(b.auction, 10000) = s.key
