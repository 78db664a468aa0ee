-- The stocks with the highest price change against the previous close: one row per symbol,
-- its latest quote in the period.
-- @param by choice(abs|gain|loss) = abs: what is highest: the change either way, the rise, or the fall
-- @param limit int(1..1000) = 5: how many stocks
-- @param since date = first: first day of the period (UTC)
-- @param until date = last: last day of the period (UTC)
SELECT symbol, price, previous_close, change, change_percent, volume, "timestamp"
FROM (
  SELECT
    symbol, price, previous_close, change, change_percent, volume, "timestamp",
    -- The latest quote and, where it was delivered twice, its latest delivery.
    row_number() OVER (PARTITION BY symbol ORDER BY "timestamp" DESC, seq DESC) AS place
  FROM stock_data_table
  WHERE day BETWEEN :since AND :until
)
WHERE place = 1
ORDER BY
  CASE :by
    WHEN 'gain' THEN change_percent
    WHEN 'loss' THEN -change_percent
    ELSE abs(change_percent)
  END DESC NULLS LAST,
  symbol
LIMIT :limit
