-- ARGV: watch, delivery, outcome, then for 'wait' (an attempt is spent) and 'release' (none is) the seconds until it is
-- due, for these and 'dead' cause and error ('' where nothing failed), for 'dead' the seconds and the number of dead ones
-- that are kept
-- The others are 'delivered' and 'denied' (it may not be told any more).
-- Returns 1, or 0 where the delivery does not wait any more: somebody else has settled it.
local name, id, outcome = ARGV[1], ARGV[2], ARGV[3]
local outbox, told, at = of_watch('outbox', name), of_watch('told', name), clock()
if not call('ZSCORE', outbox, id) then
  return 0
end
if outcome == 'release' then
  call('ZADD', outbox, at + tonumber(ARGV[4]), id)
  if ARGV[6] ~= '' then
    call('HSET', told, 'last_error', ARGV[6])
  end
  return 1
end
if outcome == 'delivered' or outcome == 'denied' then
  call('ZREM', outbox, id)
  call('DEL', delivery(id))
  call('HINCRBY', told, outcome, 1)
  if outcome == 'delivered' then
    call('HDEL', told, 'last_error')
    call('HSET', told, 'last_delivered', at)
  end
  return 1
end
if outcome == 'wait' then
  call('ZADD', outbox, at + tonumber(ARGV[4]), id)
  call('HINCRBY', delivery(id), 'attempts', 1)
  call('HSET', told, 'last_error', ARGV[6])
  return 1
end
call('ZREM', outbox, id)
call('HINCRBY', delivery(id), 'attempts', 1)
call('HSET', delivery(id), 'cause', ARGV[5], 'error', ARGV[6], 'died', at)
call('HINCRBY', told, 'died', 1)
call('HSET', told, 'last_error', ARGV[6])
local dead = of_watch('dead', name)
call('ZADD', dead, at, id)
local old = call('ZRANGEBYSCORE', dead, '-inf', at - tonumber(ARGV[7]))
local over = call('ZCARD', dead) - #old - tonumber(ARGV[8])
if over > 0 then
  old = call('ZRANGE', dead, 0, #old + over - 1)
end
for _, gone in ipairs(old) do
  call('ZREM', dead, gone)
  call('DEL', delivery(gone))
end
call('HINCRBY', told, 'discarded', #old)
return 1
