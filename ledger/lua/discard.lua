-- ARGV: id, id, …   Returns the positions (from 0) of the letters that were there. Their images stay counted as dead.
local discarded = {}
for position, id in ipairs(ARGV) do
  if remove_letter(id) then
    leave_trace(id, 'x')
    drop_outputs(id)
    call('HINCRBY', COUNTS, 'dead', 1)
    discarded[#discarded + 1] = position - 1
  end
end
return discarded
