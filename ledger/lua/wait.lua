-- ARGV: id, token, delay in seconds, attempts spent (0 or 1), reason, what died of it ('none'; 'beside' others, which
-- counts as a death alone where nothing else was in work; 'alone')
-- Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  return 0
end
call('ZREM', LEASED, id)
if ARGV[6] ~= 'none' then
  if ARGV[6] == 'alone' then
    call('HSET', image(id), 'solo', 1)
  end
  count_death(id)
end
call('HDEL', image(id), 'token', 'owner', 'solo')
call('HSET', image(id), 'state', 'waiting', 'reason', ARGV[5])
if ARGV[4] == '1' then
  call('HINCRBY', image(id), 'attempts', 1)
end
call('ZADD', WAITING, clock() + tonumber(ARGV[3]), id)
return 1
