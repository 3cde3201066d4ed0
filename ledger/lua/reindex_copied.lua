-- ARGV: id, time, id, time, …   These are copied as they were then: removes those that have not landed again since.
for i = 1, #ARGV, 2 do
  if call('ZSCORE', CHANGED, ARGV[i]) == ARGV[i + 1] then
    call('ZREM', CHANGED, ARGV[i])
  end
end
return 1
