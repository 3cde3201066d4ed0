-- ARGV: key, RFC 3339 time in UTC with nine fractional digits (such times compare as text)   Moves forwards only.
local now = call('GET', ARGV[1])
if not now or now < ARGV[2] then
  call('SET', ARGV[1], ARGV[2])
end
return 1
