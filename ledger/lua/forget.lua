-- ARGV: id, trace, id, trace, …   Removes the traces that are still the same; returns how many.
local forgotten = 0
for i = 1, #ARGV, 2 do
  if trace(ARGV[i]) == ARGV[i + 1] then
    remove_trace(ARGV[i])
    if STATES[ARGV[i + 1]:sub(1, 1)] == 'landed' then
      call('HINCRBY', COUNTS, LET_GO, 1)
    end
    forgotten = forgotten + 1
  end
end
return forgotten
