-- ARGV: id, id, …   Returns the positions (from 0) of the images that were new; they have landed now.
local new = {}
for i, id in ipairs(ARGV) do
  if call('EXISTS', image(id)) == 0 and not trace(id) then
    call('HINCRBY', COUNTS, 'seen', 1)
    call('HINCRBY', COUNTS, 'landed', 1)
    leave_trace(id, 'l')
    note_change(id)
    new[#new + 1] = i - 1
  else
    delete_if_unwanted(id)
  end
end
return new
