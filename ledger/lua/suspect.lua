-- ARGV: lease in seconds, owner   Takes the suspect that waits longest. Returns {id, record, token, attempt, deaths,
-- deaths alone, outputs kept (0 or 1), order to make it again or ''}, or nothing where none waits or somebody works
-- alone.
-- The owner is new for each request: a request repeated because its answer was lost gets the same lease again.
local seconds, owner = tonumber(ARGV[1]), ARGV[2]
local at, taken = clock(), PREFIX .. 'taken:' .. owner
local id = call('GET', taken)
local token = id and call('HGET', image(id), 'owner') == owner and tonumber(call('HGET', image(id), 'token'))
if not token then
  id = call('EXISTS', ALONE) == 0 and call('ZRANGE', SUSPECTS, 0, 0)[1]
  if not id then
    return {}
  end
  call('ZREM', SUSPECTS, id)
  if call('EXISTS', image(id)) == 0 then -- somebody removed it: the audit's difference shows that
    return {}
  end
  token = grant(id, owner, at, seconds)
  call('SET', taken, id, 'PX', math.ceil(seconds * 1000))
end
local now = call('HMGET', image(id), 'record', 'attempts', 'deaths', 'alone', 'redo')
return {
  id, now[1], token, tonumber(now[2] or 0) + 1, tonumber(now[3] or 0), tonumber(now[4] or 0),
  call('EXISTS', outputs(id)), order_of(now[5]),
}
