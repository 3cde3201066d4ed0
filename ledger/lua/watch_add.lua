-- ARGV: name, what it is (JSON), 'looking' or 'alerting', most watches
-- Returns 'added', 'taken' (there is one of that name) or 'full'.
local name = ARGV[1]
if call('HEXISTS', WATCHES, name) == 1 then
  return 'taken'
end
if call('HLEN', WATCHES) >= tonumber(ARGV[4]) then
  return 'full'
end
call('HSET', WATCHES, name, ARGV[2])
call('HSET', WATCH .. ARGV[3], name, string.format('%.3f', clock()))
return 'added'
