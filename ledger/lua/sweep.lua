-- ARGV: now ('' for the server's time), most images, lease in seconds, seconds after which a message counts as lost,
-- name of the broker's list, most seconds that an image waits, seconds without a sweep that say that none was possible
-- Returns id, record, id, record, … of the images whose message must be published (again). All of them are queued now,
-- with this time, so that no other sweep returns them too. Images of holders that died are set apart instead.
local at = tonumber(ARGV[1]) or clock()
local room, lease, lost_after = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local publish = {}

-- The first images of a sorted set between two scores, as far as there is room.
local function head(key, low, high)
  if room <= 0 then
    return {}
  end
  local ids = call('ZRANGEBYSCORE', key, low, high, 'LIMIT', 0, room)
  room = room - #ids
  return ids
end

local function queue(id, from)
  call('ZREM', from, id)
  local record = call('HGET', image(id), 'record')
  if not record then -- somebody removed the image's hash: the audit's difference shows it
    return
  end
  if from == LEASED then
    count_death(id)
  end
  if is_suspect(id) then
    set_apart(id, at)
  else
    call('HDEL', image(id), 'token', 'owner')
    call('HSET', image(id), 'state', 'queued', 'again', 1)
    call('ZADD', QUEUED, at, id)
    publish[#publish + 1] = id
    publish[#publish + 1] = record
  end
end

-- What waits and is due comes last: thousands may be so again and again, and would leave no room for the others.

-- 1. Leases that ran out. Their owners could not renew them while the server was down, or refused to write, or its clock
-- jumped: nobody swept in that time either. After it they get the length of a lease to do so. A lease from before the
-- clock was set back would last too long: it begins now.
local swept, gap = PREFIX .. 'swept', PREFIX .. 'swept:gap'
local uptime = tonumber(call('INFO', 'server'):match('uptime_in_seconds:(%d+)'))
local waits = call('EXISTS', gap) == 1
if ARGV[1] == '' then
  -- pcall: a server that is full must not keep a sweep from what frees memory
  if at - tonumber(call('GET', swept) or at) > tonumber(ARGV[7]) then
    waits = true
    redis.pcall('SET', gap, 1, 'PX', math.ceil(lease * 1000))
  end
  redis.pcall('SET', swept, at)
end
if uptime + at - clock() > lease and not waits then
  for _, id in ipairs(head(LEASED, '-inf', at)) do
    queue(id, LEASED)
  end
end
for _, id in ipairs(call('ZRANGEBYSCORE', LEASED, '(' .. (at + 2 * lease), '+inf', 'LIMIT', 0, ARGV[2])) do
  call('ZADD', LEASED, at + lease, id)
end

-- 2. Lost messages. The broker's list is first in, first out: an image that is still queued while one that came new
-- lost_after later has been leased, or while the list is empty for lost_after, has no message any more (or one that a
-- worker holds back; a second one is harmless). A time in the future is from before the clock was set back.
local oldest = tonumber(call('GET', OVERTAKEN) or 0)
if oldest > at then
  call('DEL', OVERTAKEN)
  oldest = 0
end
if call('LLEN', ARGV[5]) == 0 then
  oldest = at
end
for _, id in ipairs(head(QUEUED, '-inf', '(' .. (oldest - lost_after))) do
  queue(id, QUEUED)
end
for _, id in ipairs(head(QUEUED, '(' .. (at + lost_after), '+inf')) do
  queue(id, QUEUED)
end

-- 3. What waits and is due, or is due only after longer than anything waits: that is from before the clock was set back.
for _, id in ipairs(head(WAITING, '-inf', at)) do
  queue(id, WAITING)
end
for _, id in ipairs(head(WAITING, '(' .. (at + tonumber(ARGV[6])), '+inf')) do
  queue(id, WAITING)
end
return publish
