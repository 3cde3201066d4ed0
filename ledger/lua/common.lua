-- What scripts share. Of this file those definitions stand before a script that it uses (ledger/connection.py).
-- A script is atomic, but what it wrote stays when a later call fails: so a transition begins with the call that takes
-- the image out of where it was. That one frees memory, and a server at maxmemory then lets the rest of the script
-- pass: running work can end where no new work fits.
local PREFIX = 'weavloader:'
local QUEUED, WAITING, LEASED = PREFIX .. 'queued', PREFIX .. 'waiting', PREFIX .. 'leased'
local COUNTS, TOKEN, OVERTAKEN = PREFIX .. 'counts', PREFIX .. 'token', PREFIX .. 'overtaken'
-- Images that a worker or a model died of, or beside: no message carries them, each is tried alone.
local SUSPECTS = PREFIX .. 'suspects'
-- While somebody holds this lock no other image is leased (Ledger.lock('alone')).
local ALONE = PREFIX .. 'lock:alone'
local DEAD_TIME, DEAD_TRANSIENT = PREFIX .. 'dead:time', PREFIX .. 'dead:transient'
local DEAD_CAUSE, DEAD_CAUSES, DEAD_COUNTS = PREFIX .. 'dead:cause:', PREFIX .. 'dead:causes', PREFIX .. 'dead:counts'

-- First letter of a finished image's trace. A dead image keeps 'd' while its letter is kept and 'x' afterwards; 'r' is
-- one that had landed, and died when it was made again: its letter is kept, and so is the object that it had. That of a
-- forgotten one stays for good.
local STATES = {l = 'landed', s = 'skipped', d = 'dead', r = 'dead', x = 'dead', f = 'forgotten'}
local FORGOTTEN = 'f'
-- Forgotten images, and cancelled ones that somebody had in hand, that are to be deleted from the store, by the time from
-- which on; 'late:<id>' is a second deletion, after the end of whoever had the image in hand.
local FORGETTING = PREFIX .. 'forgetting'
local LATE = 'late:'
-- Counts of the landed images whose trace is gone, and of the forgotten ones that had landed.
local LET_GO, FORGOTTEN_LANDED = 'let_go', 'forgotten_landed'

-- Images whose outputs are kept, by the time until which they are.
local OUTPUTS = PREFIX .. 'outputs'

-- What is to be made again of images that had landed, and how: the orders by their hash, and how many images that are
-- on their way each has. An order goes with its last image.
local ORDERS, ORDERED = PREFIX .. 'redo:orders', PREFIX .. 'redo:images'

local RECENT = PREFIX .. 'landed:recent'

local call = redis.call

local function image(id)
  return PREFIX .. 'image:' .. id
end

local function clock()
  local time = call('TIME')
  return time[1] + time[2] / 1000000
end

-- Finished images: 65,536 small hashes by the id's first four digits, field = the other digits, value = the state's
-- letter and the day since the epoch.
local function bucket(id)
  return PREFIX .. 'done:' .. id:sub(1, 4), id:sub(5)
end

local function trace(id)
  local key, field = bucket(id)
  return call('HGET', key, field)
end

local function leave_trace(id, letter)
  local key, field = bucket(id)
  call('HSET', key, field, letter .. math.floor(clock() / 86400))
end

local function remove_trace(id)
  local key, field = bucket(id)
  call('HDEL', key, field)
end

-- An image that was forgotten or cancelled meanwhile has landed all the same: it is to be deleted from the store again.
local function delete_if_unwanted(id)
  if (trace(id) or ''):sub(1, 1) == FORGOTTEN or call('ZSCORE', FORGETTING, LATE .. id) then
    call('ZADD', FORGETTING, clock(), id)
  end
end

-- Whether somebody has, or had, an unfinished image of these fields in hand. The store may have taken it, or take it yet,
-- whatever its holder could tell the ledger: it was killed, cut off from the store, or told to stop meanwhile.
local function was_in_hand(state, again)
  return state ~= 'queued' or again
end

-- Has the store delete an image that somebody had in hand; once more when its holder has ended for sure.
local function delete_from_store(id, late)
  call('ZADD', FORGETTING, clock(), id)
  call('ZADD', FORGETTING, clock() + late, LATE .. id)
end

-- Whether the lease is still its owner's.
local function owned(id, token)
  local now = call('HMGET', image(id), 'state', 'token')
  return now[1] == 'leased' and now[2] == token
end

-- Leases an image. Tokens grow by the clock where it is ahead, so that a server which lost its last second gives none
-- out twice.
local function grant(id, owner, at, seconds)
  local token = string.format('%.0f', math.max(tonumber(call('GET', TOKEN) or 0) + 1, math.floor(at * 1000000)))
  call('SET', TOKEN, token)
  call('HDEL', image(id), 'reason')
  call('HSET', image(id), 'state', 'leased', 'token', token, 'owner', owner)
  call('ZADD', LEASED, at + seconds, id)
  return tonumber(token)
end

-- The holder of an image died: a death beside others, or alone where nothing else was in work anywhere.
local function count_death(id)
  call('HINCRBY', image(id), 'deaths', 1)
  if call('HEXISTS', image(id), 'solo') == 1 then
    call('HINCRBY', image(id), 'alone', 1)
  end
end

local function is_suspect(id)
  return tonumber(call('HGET', image(id), 'deaths') or 0) > 0
end

-- Puts an image, taken out of where it was, among the suspects.
local function set_apart(id, at)
  call('HDEL', image(id), 'token', 'owner', 'solo')
  call('HSET', image(id), 'state', 'waiting', 'reason', 'suspect')
  call('ZADD', SUSPECTS, at, id)
end

-- Puts a new image into the queue.
local function enqueue(id, record, at)
  call('HSET', image(id), 'state', 'queued', 'record', record)
  call('ZADD', QUEUED, at, id)
end

-- Puts an image into the queue that was there before: 'again' says that older messages of it may be about.
local function enqueue_again(id, record, at)
  enqueue(id, record, at)
  call('HSET', image(id), 'again', 1)
end

-- What an image's stages made in an attempt that failed.
local function outputs(id)
  return OUTPUTS .. ':' .. id
end

local function drop_outputs(id)
  if call('DEL', outputs(id)) == 1 then
    call('ZREM', OUTPUTS, id)
  end
end

-- Has an image, queued just now, made again as an order says.
local function put_under(id, order)
  local key = redis.sha1hex(order)
  call('HSET', ORDERS, key, order)
  call('HINCRBY', ORDERED, key, 1)
  call('HSET', image(id), 'redo', key)
end

-- The order of an image's field, '' where it has none.
local function order_of(key)
  return key and call('HGET', ORDERS, key) or ''
end

-- The image is no more under its order, if it was under one.
local function end_order(id)
  local key = call('HGET', image(id), 'redo')
  if key and call('HINCRBY', ORDERED, key, -1) <= 0 then
    call('HDEL', ORDERED, key)
    call('HDEL', ORDERS, key)
  end
end

-- Ends a leased image.
local function finish(id, letter)
  call('ZREM', LEASED, id)
  end_order(id)
  call('DEL', image(id))
  leave_trace(id, letter)
end

-- since: when the image died first, where it was replayed: what is retried by itself is so for some days only.
local function keep_letter(id, json, cause, kind, when, seconds, since)
  call('SET', 'dlq:' .. id, json, 'EX', seconds)
  call('ZADD', DEAD_TIME, when, id)
  call('ZADD', DEAD_CAUSE .. cause, when, id)
  call('HSET', DEAD_CAUSES, id, cause)
  call('HINCRBY', DEAD_COUNTS, cause, 1)
  if kind == 'transient' then
    call('ZADD', DEAD_TRANSIENT, since or when, id)
  end
end

-- Takes a letter out of the indexes; whether it was there.
local function remove_letter(id)
  if call('ZREM', DEAD_TIME, id) == 0 then
    return false
  end
  call('DEL', 'dlq:' .. id)
  call('ZREM', DEAD_TRANSIENT, id)
  local cause = call('HGET', DEAD_CAUSES, id)
  if cause then
    call('ZREM', DEAD_CAUSE .. cause, id)
    call('HDEL', DEAD_CAUSES, id)
    if call('HINCRBY', DEAD_COUNTS, cause, -1) <= 0 then
      call('HDEL', DEAD_COUNTS, cause)
    end
  end
  return true
end

-- Whether the ledger has never seen an image, or has forgotten it.
local function is_new(id)
  return call('EXISTS', image(id)) == 0 and not trace(id)
end

-- Leaves a new image out.
local function skip_new(id, reason)
  call('HINCRBY', COUNTS, 'seen', 1)
  call('HINCRBY', COUNTS, 'skipped', 1)
  call('HINCRBY', COUNTS, 'skipped:' .. reason, 1)
  leave_trace(id, 's')
end

-- Backfills: all by the time of their start; those that read or have images on their way; and of each its fields, and
-- the ids of the images that it queued and that have not ended, as far as anybody has looked.
local BACKFILLS, ACTIVE = PREFIX .. 'backfills', PREFIX .. 'backfills:active'

local function backfill(id)
  return PREFIX .. 'backfill:' .. id
end

local function backfill_images(id)
  return backfill(id) .. ':images'
end

-- Standing searches. What is defined, which of them look at pictures and since when, what landed and was not looked at
-- yet, and how much of that there was no room for.
local WATCH = PREFIX .. 'watch:'
local WATCHES, LOOKING, ALERTING = PREFIX .. 'watches', WATCH .. 'looking', WATCH .. 'alerting'
local UNLOOKED, OVERFLOW = WATCH .. 'landed', WATCH .. 'overflow'

-- Lets standing searches look at what landed ('id time'), oldest first, while there are any: some 25 MB when nobody looks
-- for long.
local function to_be_looked_at(entry)
  if call('EXISTS', LOOKING) == 0 then
    return
  end
  if call('LLEN', UNLOOKED) < 500000 then
    call('RPUSH', UNLOOKED, entry)
  else
    call('HINCRBY', OVERFLOW, 'count', 1)
    call('HSETNX', OVERFLOW, 'since', clock())
    call('HSET', OVERFLOW, 'until', clock())
    call('EXPIRE', OVERFLOW, 2592000)
  end
end

-- One watch's own keys: deliveries by the time they are due, dead ones by the time they died, numbers for people,
-- pictures that were decided on, the last posted picture of each camera, and alerts that were told to fire.
local function of_watch(what, name)
  return WATCH .. what .. ':' .. name
end

local function delivery(id)
  return WATCH .. 'delivery:' .. id
end

-- Lets a delivery be due; whether there was room for it.
local function put_delivery(name, id, subject, body, at, most)
  if call('ZCARD', of_watch('outbox', name)) >= most then
    call('HINCRBY', of_watch('told', name), 'dropped', 1)
    return false
  end
  call('HSET', delivery(id), 'watch', name, 'subject', subject, 'body', body, 'attempts', 0)
  call('ZADD', of_watch('outbox', name), at, id)
  return true
end

-- A version of the collection that is being filled (a JSON text while that is under way), and the images that landed
-- meanwhile, by the time: they are copied again.
local REINDEX, CHANGED = PREFIX .. 'reindex', PREFIX .. 'reindex:changed'

local function note_change(id)
  if call('EXISTS', REINDEX) == 1 then
    call('ZADD', CHANGED, clock(), id)
  end
end
