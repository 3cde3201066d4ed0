-- ARGV: id, token   Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  return 0
end
finish(id, 'l')
drop_outputs(id)
call('HINCRBY', COUNTS, 'landed', 1)
return 1
