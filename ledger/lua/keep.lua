-- ARGV: id, token, seconds to keep them, most images, field, value, …   Returns 1, or 0 when the lease is lost or too
-- many images have outputs kept. Of all scripts this one must fail on a full server: what takes memory comes first.
local id, seconds = ARGV[1], tonumber(ARGV[3])
local key, at = outputs(id), clock()
if not owned(id, ARGV[2]) then
  return 0
end
if call('EXISTS', key) == 0 and call('ZCOUNT', OUTPUTS, at, '+inf') >= tonumber(ARGV[4]) then
  return 0
end
call('HSET', key, unpack(ARGV, 5))
call('EXPIRE', key, math.ceil(seconds))
call('ZADD', OUTPUTS, at + seconds, id)
call('ZREMRANGEBYSCORE', OUTPUTS, '-inf', at)
return 1
