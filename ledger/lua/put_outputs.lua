-- ARGV: id, seconds to keep them, field, value, …
local id, seconds = ARGV[1], tonumber(ARGV[2])
call('HSET', outputs(id), unpack(ARGV, 3))
call('EXPIRE', outputs(id), seconds)
call('ZADD', OUTPUTS, clock() + seconds, id)
return 1
