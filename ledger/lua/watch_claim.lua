-- ARGV: watch, most deliveries, seconds for which nobody else gets them
-- Returns id, attempts, body of those that are due, the longest due first.
local outbox, at = of_watch('outbox', ARGV[1]), clock()
local found = {}
for _, id in ipairs(call('ZRANGEBYSCORE', outbox, '-inf', at, 'LIMIT', 0, ARGV[2])) do
  local kept = call('HMGET', delivery(id), 'attempts', 'body')
  if kept[2] then
    call('ZADD', outbox, at + tonumber(ARGV[3]), id)
    found[#found + 1] = id
    found[#found + 1] = kept[1]
    found[#found + 1] = kept[2]
  else
    call('ZREM', outbox, id)
  end
end
return found
