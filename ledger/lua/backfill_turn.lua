-- ARGV: backfill, cursor before, cursor after (nanoseconds), images found between them
-- Returns 1, or 0 when the cursor was moved by somebody else. What was found and neither queued nor left out by this
-- backfill, be it before its reader was killed, is known already.
local key = backfill(ARGV[1])
if call('HGET', key, 'cursor') ~= ARGV[2] then
  return 0
end
local found = call('HINCRBY', key, 'found', ARGV[4])
local now = call('HMGET', key, 'queued', 'left_out')
call('HSET', key, 'cursor', ARGV[3], 'known', math.max(0, found - tonumber(now[1] or 0) - tonumber(now[2] or 0)))
return 1
