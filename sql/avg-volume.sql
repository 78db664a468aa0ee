-- Average volume of a quote per symbol, the busiest first, with how many quotes there are and
-- the first and last of them.
-- @param since date = first: first day of the period (UTC)
-- @param until date = last: last day of the period (UTC)
SELECT
  symbol,
  CAST(round(avg(volume)) AS bigint) AS avg_volume,
  count(*) AS quotes,
  min("timestamp") AS first_timestamp,
  max("timestamp") AS last_timestamp
FROM (
  SELECT
    symbol, volume, "timestamp",
    -- The archive is written at least once: of one quote, the latest delivery counts.
    row_number() OVER (PARTITION BY symbol, "timestamp" ORDER BY seq DESC) AS delivery
  FROM stock_data_table
  WHERE day BETWEEN :since AND :until
)
WHERE delivery = 1
GROUP BY symbol
ORDER BY avg_volume DESC, symbol
