-- A letter of a job that has no lease and no image of the ledger's (its message held no record).
-- ARGV: task id, letter, cause, kind, when, seconds to keep it   Returns 1, or 0 when the id is known already.
local id = ARGV[1]
if call('EXISTS', image(id)) == 1 or trace(id) then
  return 0
end
call('HINCRBY', COUNTS, 'seen', 1)
leave_trace(id, 'd')
keep_letter(id, ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
