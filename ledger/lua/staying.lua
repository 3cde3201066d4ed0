-- ARGV: key   Returns the names whose time has not ended, each followed by the seconds that are left of it.
local now = clock()
call('ZREMRANGEBYSCORE', ARGV[1], '-inf', now)
local found = call('ZRANGE', ARGV[1], 0, -1, 'WITHSCORES')
for at = 2, #found, 2 do
  found[at] = string.format('%.3f', tonumber(found[at]) - now)
end
return found
