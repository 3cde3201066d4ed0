-- ARGV: id, id, …   Returns the positions (from 0) of the letters that were there. Their images stay counted as dead;
-- one that died when it was made again counts as landed, as before: the store has its older object still.
local discarded = {}
for position, id in ipairs(ARGV) do
  local mark = trace(id)
  if remove_letter(id) then
    local landed = mark and mark:sub(1, 1) == 'r'
    leave_trace(id, landed and 'l' or 'x')
    drop_outputs(id)
    call('HINCRBY', COUNTS, landed and 'landed' or 'dead', 1)
    discarded[#discarded + 1] = position - 1
  end
end
return discarded
