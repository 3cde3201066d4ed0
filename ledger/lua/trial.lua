-- ARGV: source, what, milliseconds   Returns {} while the source is not paused, else {why, milliseconds until the next
-- trial of this kind}; 0 says that this caller has it, and that the next one is so many milliseconds later.
local why = call('GET', PREFIX .. 'paused:' .. ARGV[1])
if not why then
  return {}
end
local key = PREFIX .. 'trial:' .. ARGV[2] .. ':' .. ARGV[1]
if call('SET', key, '1', 'NX', 'PX', ARGV[3]) then
  return {why, 0}
end
return {why, math.max(call('PTTL', key), 1)}
