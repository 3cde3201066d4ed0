-- ARGV: id, token, reason   Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  return 0
end
finish(id, 's')
drop_outputs(id)
call('HINCRBY', COUNTS, 'skipped', 1)
call('HINCRBY', COUNTS, 'skipped:' .. ARGV[3], 1)
return 1
