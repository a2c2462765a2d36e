-- Windows of ten seconds: how many bids each user made in each.
-- The original takes the time of processing, by which no result could be computed again; here it is the bid's time.
SELECT bidder, count(*) AS bid_count, window_start AS starttime, window_end AS endtime
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end
