-- ARGV: reason, id, id, …   Leaves tombstones of images that nobody knows: they were seen and forgotten.
for i = 2, #ARGV do
  if is_new(ARGV[i]) then
    leave_trace(ARGV[i], FORGOTTEN)
    call('HINCRBY', COUNTS, 'seen', 1)
    call('HINCRBY', COUNTS, 'forgotten', 1)
    call('HINCRBY', COUNTS, 'forgotten:' .. ARGV[1], 1)
  end
end
return 1
