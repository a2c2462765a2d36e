-- Average selling price by seller, over the last ten auctions that closed.
-- Flink does not define it for a result that changes; this is RisingWave's form.
SELECT q.seller, avg(q.final) OVER (
  PARTITION BY q.seller ORDER BY q.date_time ROWS BETWEEN 10 PRECEDING AND CURRENT ROW
) AS avg
FROM (
  SELECT row_number() OVER (PARTITION BY a.id, a.seller ORDER BY b.price DESC) AS rownum,
    a.seller, b.price AS final, b.date_time
  FROM auction AS a, bid AS b
  WHERE a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
) AS q
WHERE q.rownum <= 1
