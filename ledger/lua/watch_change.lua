-- ARGV: name, 'pause', 'resume', 'remove' or 'replace', then for resume 'looking' or 'alerting', for replace what it is
-- and what it becomes   Returns 1, or 0 where there is no such watch (any more).
local name, change = ARGV[1], ARGV[2]
local now = call('HGET', WATCHES, name)
if not now then
  return 0
end
if change == 'replace' then
  if now ~= ARGV[3] then
    return 0
  end
  call('HSET', WATCHES, name, ARGV[4])
  return 1
end
if change == 'resume' then
  if call('HEXISTS', WATCH .. ARGV[3], name) == 0 then
    call('HSET', WATCH .. ARGV[3], name, string.format('%.3f', clock()))
  end
  return 1
end
call('HDEL', LOOKING, name)
call('HDEL', ALERTING, name)
if call('EXISTS', LOOKING) == 0 then
  call('DEL', UNLOOKED, OVERFLOW)
end
if change == 'remove' then
  call('HDEL', WATCHES, name)
  for _, what in ipairs({'outbox', 'dead'}) do
    for _, id in ipairs(call('ZRANGE', of_watch(what, name), 0, -1)) do
      call('DEL', delivery(id))
    end
    call('DEL', of_watch(what, name))
  end
  call('DEL', of_watch('told', name), of_watch('decided', name), of_watch('cameras', name), of_watch('firing', name))
end
return 1
