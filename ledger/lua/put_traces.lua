-- ARGV: id, trace, id, trace, …   Leaves the traces of images of which nothing is known. No count changes.
for i = 1, #ARGV, 2 do
  if call('EXISTS', image(ARGV[i])) == 0 then
    local key, field = bucket(ARGV[i])
    call('HSETNX', key, field, ARGV[i + 1])
  end
end
return 1
