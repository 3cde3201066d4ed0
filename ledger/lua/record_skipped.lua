-- ARGV: id, reason, id, reason, …   Returns the positions (from 0) of the images that were new; they are skipped now.
local new = {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  if call('EXISTS', image(id)) == 0 and not trace(id) then
    call('HINCRBY', COUNTS, 'seen', 1)
    call('HINCRBY', COUNTS, 'skipped', 1)
    call('HINCRBY', COUNTS, 'skipped:' .. ARGV[i + 1], 1)
    leave_trace(id, 's')
    new[#new + 1] = (i - 1) / 2
  end
end
return new
