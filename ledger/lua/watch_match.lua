-- ARGV: most deliveries that wait, most pictures and cameras that are remembered, number of entries, the entries, then
-- for each match: watch, delivery, image, camera, captured at (seconds), cool-down (seconds), score, body
-- Takes the entries off the list and decides on the matches, at once or not at all. Returns each match's outcome
-- ('queued', 'cooldown', 'repeated', 'dropped', 'gone'); nothing where the list does not begin with the entries any more,
-- because somebody else has looked at them.
local most, remembered, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local there = call('LRANGE', UNLOOKED, 0, count - 1)
for i = 1, count do
  if there[i] ~= ARGV[3 + i] then
    return false
  end
end
call('LTRIM', UNLOOKED, count, -1)

local at = clock()

local function decide(name, id, subject, camera, captured, cooldown, score, body)
  if call('HEXISTS', LOOKING, name) == 0 then
    return 'gone'
  end
  local decided, told, cameras = of_watch('decided', name), of_watch('told', name), of_watch('cameras', name)
  if call('ZSCORE', decided, subject) then
    return 'repeated'
  end
  call('ZADD', decided, at, subject)
  call('ZREMRANGEBYRANK', decided, 0, -remembered - 1)
  call('HINCRBY', told, 'matches', 1)
  call('HSET', told, 'last_match', at, 'last_image', subject, 'last_score', score)
  local last = call('HGET', cameras, camera)
  if cooldown > 0 and last and math.abs(captured - tonumber(last)) < cooldown then
    call('HINCRBY', told, 'cooldown', 1)
    return 'cooldown'
  end
  if not put_delivery(name, id, subject, body, at, most) then
    return 'dropped'
  end
  if call('HLEN', cameras) >= remembered then
    call('DEL', cameras)
  end
  call('HSET', cameras, camera, string.format('%.3f', captured))
  return 'queued'
end

local outcomes = {}
for i = 4 + count, #ARGV, 8 do
  outcomes[#outcomes + 1] = decide(
    ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5]), ARGV[i + 6], ARGV[i + 7]
  )
end
return outcomes
