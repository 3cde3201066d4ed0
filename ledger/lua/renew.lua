-- ARGV: lease in seconds, id, token, id, token, …   Returns the positions (from 0) of the leases that are lost.
local until_then = clock() + tonumber(ARGV[1])
local lost = {}
for i = 2, #ARGV, 2 do
  if owned(ARGV[i], ARGV[i + 1]) then
    call('ZREM', LEASED, ARGV[i])
    call('ZADD', LEASED, until_then, ARGV[i])
  else
    lost[#lost + 1] = (i - 2) / 2
  end
end
return lost
