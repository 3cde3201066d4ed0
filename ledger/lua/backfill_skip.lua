-- ARGV: backfill, id, reason, id, reason, …   Returns the positions (from 0) of the images that were new; they are skipped
-- now, and counted for the backfill too.
local key = backfill(ARGV[1])
local new = {}
for i = 2, #ARGV, 2 do
  if is_new(ARGV[i]) then
    skip_new(ARGV[i], ARGV[i + 1])
    call('HINCRBY', key, 'left_out', 1)
    call('HINCRBY', key, 'left_out:' .. ARGV[i + 1], 1)
    new[#new + 1] = (i - 2) / 2
  end
end
return new
