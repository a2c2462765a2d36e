-- Pass through: what reading a stream costs by itself.
SELECT auction, bidder, price, date_time, extra FROM bid
