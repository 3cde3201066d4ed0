-- ARGV: id, token   Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  return 0
end
call('ZREM', LEASED, id)
if is_suspect(id) then
  set_apart(id, clock())
  return 1
end
call('HDEL', image(id), 'token', 'owner')
call('HSET', image(id), 'state', 'queued', 'again', 1)
call('ZADD', QUEUED, clock(), id)
return 1
