-- ARGV: JSON [id, letter, cause, kind, when, since ('' where not transient), seconds to keep it, its trace's letter], …   No count changes.
for _, text in ipairs(ARGV) do
  local id, letter, cause, kind, when, since, seconds, mark = unpack(cjson.decode(text))
  if call('EXISTS', image(id)) == 0 and not trace(id) then
    leave_trace(id, mark or 'd')
    keep_letter(id, letter, cause, kind, when, seconds, since ~= '' and since or nil)
  end
end
return 1
