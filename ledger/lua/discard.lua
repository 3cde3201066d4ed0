-- ARGV: id, id, …   Returns how many letters were there. Their images stay counted as dead.
local discarded = 0
for _, id in ipairs(ARGV) do
  if remove_letter(id) then
    leave_trace(id, 'x')
    drop_outputs(id)
    call('HINCRBY', COUNTS, 'dead', 1)
    discarded = discarded + 1
  end
end
return discarded
