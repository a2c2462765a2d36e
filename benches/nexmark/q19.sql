SELECT *
FROM (SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder) AS rank FROM bid) AS ranked
WHERE rank <= 10
