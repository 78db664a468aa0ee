-- The newest quotes of the archive.
-- @param symbol symbol = any: only this stock
-- @param limit int(1..10000) = 10: rows at most
-- @param since date = first: first day of the period (UTC)
-- @param until date = last: last day of the period (UTC)
SELECT
  symbol, "timestamp", open, high, low, price, previous_close, change_percent, volume,
  source
FROM (
  SELECT
    *,
    -- The archive is written at least once: of one quote, the latest delivery counts.
    row_number() OVER (PARTITION BY symbol, "timestamp" ORDER BY seq DESC) AS delivery
  FROM stock_data_table
  WHERE day BETWEEN :since AND :until AND (:symbol IS NULL OR symbol = :symbol)
)
WHERE delivery = 1
ORDER BY "timestamp" DESC, symbol
LIMIT :limit
