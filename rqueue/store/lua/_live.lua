-- live: pools of which a source says what their hosts have. Such a one has a field in `observed`: the moment (µs)
-- at which the last observation began, "0" before the first.
--
-- KEYS    observed
-- NEEDS   clock order
--
-- For scripts with the argument stale_after, the default of the setting.

-- Where a pool stands still when nobody needs to be looked at, and nobody who comes is a reason to look.
local NOBODY = place_text(-MAX_PRIORITY - 1, "")

-- Whether what is known of a live pool is older than `written`, the queue's stale_after, allows.
local function too_old(live, written, now_us)
  return live and now_us - (finite(live) or 0) > (finite(written) or tonumber(stale_after)) * 1000000
end
