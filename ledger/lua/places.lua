-- ARGV: the most ids of a group, seconds that a group is kept, then group, id, group, id, …
-- Returns the positions (from 0) of the ids that have a place: who has one keeps it, others get one while there are any.
local most, kept = tonumber(ARGV[1]), ARGV[2]
local placed = {}
for i = 3, #ARGV, 2 do
  local group, id = PREFIX .. 'places:' .. ARGV[i], ARGV[i + 1]
  local has = call('SISMEMBER', group, id) == 1
  if not has and call('SCARD', group) < most then
    call('SADD', group, id)
    call('EXPIRE', group, kept)
    has = true
  end
  if has then
    placed[#placed + 1] = (i - 3) / 2
  end
end
return placed
