-- Quotes whose price moved more than a threshold against the previous close, newest first.
-- @param threshold decimal(0..1000) = 5: percent, either way; compared exactly
-- @param limit int(1..10000) = 100: rows at most
-- @param since date = first: first day of the period (UTC)
-- @param until date = last: last day of the period (UTC)
SELECT symbol, "timestamp", price, previous_close, change, change_percent, volume
FROM (
  SELECT
    symbol, "timestamp", price, previous_close, change, change_percent, volume,
    -- The archive is written at least once: of one quote, the latest delivery counts.
    row_number() OVER (PARTITION BY symbol, "timestamp" ORDER BY seq DESC) AS delivery
  FROM stock_data_table
  WHERE day BETWEEN :since AND :until
)
WHERE delivery = 1
  -- Multiplied out: a quotient would be rounded, and change_percent already is.
  AND abs(price - previous_close) * 100 > :threshold * previous_close
ORDER BY "timestamp" DESC, symbol
LIMIT :limit
