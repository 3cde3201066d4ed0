-- ARGV: id, record, id, record, …   Returns the positions (from 0) of the images that were new; they are queued now.
local at = clock()
local new = {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  if is_new(id) then
    call('HINCRBY', COUNTS, 'seen', 1)
    enqueue(id, ARGV[i + 1], at)
    new[#new + 1] = (i - 1) / 2
  end
end
return new
