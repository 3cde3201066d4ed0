-- ARGV: id, most backfills that are kept, field, value, …   Returns 1, or 0 when it was started before: a request that is
-- repeated because its answer was lost starts no second one.
local id, at = ARGV[1], clock()
if call('EXISTS', backfill(id)) == 1 then
  return 0
end
call('HSET', backfill(id), 'state', 'running', 'started', string.format('%.3f', at), unpack(ARGV, 3))
call('SADD', ACTIVE, id)
call('ZADD', BACKFILLS, at, id)
for _, old in ipairs(call('ZRANGE', BACKFILLS, 0, -1 - tonumber(ARGV[2]))) do
  if call('SISMEMBER', ACTIVE, old) == 0 then
    call('ZREM', BACKFILLS, old)
    call('DEL', backfill(old))
  end
end
return 1
