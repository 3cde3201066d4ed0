-- ARGV: id, record, lease in seconds, owner   Returns {token, attempt, deaths, outputs kept (0 or 1)} or {why not}.
-- The owner is new for each request: a request repeated because its answer was lost gets the same lease again.
local id, record, seconds, owner = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local at = clock()
local now = call('HMGET', image(id), 'state', 'owner', 'attempts', 'deaths', 'token', 'again')
local state, attempts, deaths = now[1], tonumber(now[3] or 0), tonumber(now[4] or 0)

if not state then
  local mark = trace(id)
  if mark then
    return {STATES[mark:sub(1, 1)]}
  end
  call('HINCRBY', COUNTS, 'seen', 1)
  call('HSET', image(id), 'record', record)
elseif state == 'waiting' then
  return {'waiting'}
elseif state == 'leased' then
  if now[2] == owner then
    return {tonumber(now[5]), attempts + 1, deaths, call('EXISTS', outputs(id))}
  end
  if tonumber(call('ZSCORE', LEASED, id) or 0) > at then
    return {'leased'}
  end
  call('ZREM', LEASED, id)
  deaths = call('HINCRBY', image(id), 'deaths', 1)
else
  local queued_at = tonumber(call('ZSCORE', QUEUED, id) or 0)
  call('ZREM', QUEUED, id)
  -- An image that was queued again may have come by an older message, which says nothing of the newer one's place.
  if not now[6] and queued_at <= at and queued_at > tonumber(call('GET', OVERTAKEN) or 0) then
    call('SET', OVERTAKEN, queued_at)
  end
end

-- Tokens grow by the clock where it is ahead, so that a server which lost its last second gives none out twice.
local token = string.format('%.0f', math.max(tonumber(call('GET', TOKEN) or 0) + 1, math.floor(at * 1000000)))
call('SET', TOKEN, token)
call('HDEL', image(id), 'reason')
call('HSET', image(id), 'state', 'leased', 'token', token, 'owner', owner)
call('ZADD', LEASED, at + seconds, id)
return {tonumber(token), attempts + 1, deaths, call('EXISTS', outputs(id))}
