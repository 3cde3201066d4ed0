-- ARGV: key, seconds to keep it   Copies the ids of all images that are on their way or have a letter into a sorted set
-- of their own, at one moment with the counts, and with backfills and orders to make something again.
-- Returns {how many ids, {count's name, count, …}, {{key without its prefix, kind, {word, …}}, …}}.
call('ZUNIONSTORE', ARGV[1], 5, QUEUED, WAITING, LEASED, SUSPECTS, DEAD_TIME)
call('EXPIRE', ARGV[1], ARGV[2])

local kept = {}

local function keep(key, kind, words)
  if #words > 0 then
    kept[#kept + 1] = {key:sub(#PREFIX + 1), kind, words}
  end
end

keep(ORDERS, 'hash', call('HGETALL', ORDERS))
keep(BACKFILLS, 'zset', call('ZRANGE', BACKFILLS, 0, -1, 'WITHSCORES'))
keep(ACTIVE, 'set', call('SMEMBERS', ACTIVE))
for _, id in ipairs(call('ZRANGE', BACKFILLS, 0, -1)) do
  keep(backfill(id), 'hash', call('HGETALL', backfill(id)))
  keep(backfill_images(id), 'set', call('SMEMBERS', backfill_images(id)))
end
return {call('ZCARD', ARGV[1]), call('HGETALL', COUNTS), kept}
