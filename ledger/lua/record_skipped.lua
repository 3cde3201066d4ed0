-- ARGV: id, reason, id, reason, …   Returns the positions (from 0) of the images that were new; they are skipped now.
local new = {}
for i = 1, #ARGV, 2 do
  if is_new(ARGV[i]) then
    skip_new(ARGV[i], ARGV[i + 1])
    new[#new + 1] = (i - 1) / 2
  end
end
return new
