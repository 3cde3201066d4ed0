-- ARGV: id, record, lease in seconds, owner, source
-- Returns {token, attempt, outputs kept (0 or 1), source paused (0 or 1), order to make it again or '', a backfill's
-- (0 or 1), in hand before (0 or 1)} or {why not}.
-- The owner is new for each request: a request repeated because its answer was lost gets the same lease again.
local id, record, seconds, owner = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local at = clock()

local now = call('HMGET', image(id), 'state', 'owner', 'attempts', 'token', 'again', 'redo', 'backfill')
local state, attempts = now[1], tonumber(now[3] or 0)

local function granted(token, attempt)
  local paused = call('EXISTS', PREFIX .. 'paused:' .. ARGV[5])
  return {token, attempt, call('EXISTS', outputs(id)), paused, order_of(now[6]), now[7] and 1 or 0, now[5] and 1 or 0}
end

if state == 'waiting' then
  return {'waiting'}
elseif state == 'leased' then
  if now[2] == owner then
    return granted(tonumber(now[4]), attempts + 1)
  end
  if tonumber(call('ZSCORE', LEASED, id) or 0) > at then
    return {'leased'}
  end
  call('ZREM', LEASED, id)
  count_death(id)
  set_apart(id, at)
  return {'waiting'}
end
if not state then
  local mark = trace(id)
  if mark then
    return {STATES[mark:sub(1, 1)]}
  end
end
if call('EXISTS', ALONE) == 1 then
  return {'held'}
end

if not state then
  call('HINCRBY', COUNTS, 'seen', 1)
  call('HSET', image(id), 'record', record)
else
  local queued_at = tonumber(call('ZSCORE', QUEUED, id) or 0)
  call('ZREM', QUEUED, id)
  -- An image that was queued again may have come by an older message, which says nothing of the newer one's place.
  if not now[5] and queued_at <= at and queued_at > tonumber(call('GET', OVERTAKEN) or 0) then
    call('SET', OVERTAKEN, queued_at)
  end
end
return granted(grant(id, owner, at, seconds), attempts + 1)
