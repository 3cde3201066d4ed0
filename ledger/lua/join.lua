-- ARGV: key, node, identity, seconds, '1' where others do not matter
-- A node's last field, after a tab, is its identity; '' is nobody's. Returns the other identities whose nodes live: then
-- the node has not joined, unless others do not matter.
call('ZREMRANGEBYSCORE', ARGV[1], '-inf', clock()) -- first what a full server allows
local others, known = {}, {}
if ARGV[3] ~= '' then
  for _, node in ipairs(call('ZRANGE', ARGV[1], 0, -1)) do
    local identity = node:match('[^\t]*$')
    if identity ~= '' and identity ~= ARGV[3] and not known[identity] then
      known[identity] = true
      others[#others + 1] = identity
    end
  end
end
if #others == 0 or ARGV[5] == '1' then
  call('ZADD', ARGV[1], clock() + tonumber(ARGV[4]), ARGV[2])
end
return others
