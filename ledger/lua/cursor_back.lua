-- ARGV: key, time as in cursor.lua   Moves backwards only, where there is a cursor. Returns 1 where it moved.
local now = call('GET', ARGV[1])
if not now or now <= ARGV[2] then
  return 0
end
call('SET', ARGV[1], ARGV[2])
return 1
