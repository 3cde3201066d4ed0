-- ARGV: entry, time, entry, time, …   The store has none of these any more: removes those that nobody put there again.
local gone = 0
for i = 1, #ARGV, 2 do
  if call('ZSCORE', FORGETTING, ARGV[i]) == ARGV[i + 1] then
    gone = gone + call('ZREM', FORGETTING, ARGV[i])
  end
end
return gone
