-- Expand bids with person and auction: bids of people who also sell. Later than the original suite.
SELECT b.auction, b.bidder, b.price, b.channel, p.name, p.email_address, p.city, p.state,
  a.id AS sold, a.item_name, a.initial_bid, a.category
FROM bid AS b JOIN person AS p ON p.id = b.bidder JOIN auction AS a ON a.seller = b.bidder
