"""The Lua scripts by which jobs change, but for those of the relay (stems_relay.scripts): each is one step in Redis."""

from stems import naming, news

# The parts of a song leave the line. Those that are being delivered find, when they end, that nobody wants them.
DROP_PARTS = f"""
local function drop_parts(song)
  local key = 'stems:parts:' .. song
  for _, part in ipairs(redis.call('HKEYS', key)) do
    redis.call('ZREM', '{naming.PARTS}', part)
    redis.call('ZREM', '{naming.PARTS_LATER}', part)
    redis.call('HDEL', '{naming.ATTEMPTS}', part)
    redis.call('DEL', 'stems:job:' .. part)
  end
  redis.call('ZREM', '{naming.DIVIDED}', song)
  return redis.call('DEL', key) == 1
end
"""

# Nobody wants what the bucket holds of a plan, unless a job does: the next worker removes it. Here and below, the first
# write needs no memory, so that a full Redis lets the others through (stems_relay.scripts).
_DISOWN = f"""
local function disown(wish)
  for _, other in ipairs(redis.call('HVALS', '{naming.WANTED}')) do
    if other == wish then return end
  end
  redis.call('SREM', '{naming.UNWANTED}', wish)
  redis.call('SADD', '{naming.UNWANTED}', wish)
end
"""

# A job wants no parts any more. Another upload of the same bytes, with the same options, may want the same ones; and a
# dead letter wants them until it is dropped.
GIVE_UP = (
    _DISOWN
    + f"""
local function give_up(job)
  local wish = redis.call('HGET', '{naming.WANTED}', job)
  redis.call('HDEL', '{naming.WANTED}', job)
  if wish then disown(wish) end
end
"""
)

# A worker is about to put parts of a plan, or leaves some behind: its job wants these, and no others. One that has
# ended meanwhile (the worker was paused, or its relay fell silent) wants none.
# KEYS: job hash. ARGV: job, wish.
WANT = (
    GIVE_UP
    + f"""
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'done' or state == 'gone' or state == 'cancelled' or state == 'dropped' then return disown(ARGV[2]) end
if redis.call('HGET', '{naming.WANTED}', ARGV[1]) ~= ARGV[2] then give_up(ARGV[1]) end
redis.call('SREM', '{naming.UNWANTED}', ARGV[2])
redis.call('HSET', '{naming.WANTED}', ARGV[1], ARGV[2])
"""
)

# A worker finds that its job needs no parts any more. ARGV: job.
GIVEN_UP = GIVE_UP + "give_up(ARGV[1])"

# A worker finds that it has put parts of a plan whose jobs may have ended. ARGV: wish.
DISOWNED = _DISOWN + "disown(ARGV[1])"

# Behind news.LUA: enters the progress of a divided song, the sum of its parts. One part of `count` is (end - begin) /
# count of it; what is not on its way any more is done.
SUM = """
local function sum(song, now)
  local key = 'stems:job:' .. song
  local before, finish, count = unpack(redis.call('HMGET', key, 'progress', 'parts_end', 'parts_share'))
  local left = 0
  for _, done in ipairs(redis.call('HVALS', 'stems:parts:' .. song)) do left = left + 1 - done end
  local progress = math.max(tonumber(finish or 1) - tonumber(count or 0) * left, 0)
  redis.call('HSET', key, 'progress', string.format('%.4f', progress), 'updated_ms', now)
  if math.floor(100 * (tonumber(before) or 0)) ~= math.floor(100 * progress) then tell('job', song) end
end
"""

# What was cancelled says so until it has ended, whatever its worker tells meanwhile. Progress is news in steps of 1 %.
# Returns 1 if the job was cancelled.
UPDATE = (
    news.LUA
    + """
local known, cancel, before = unpack(redis.call('HMGET', KEYS[1], 'state', 'cancel', 'progress'))
if cancel then return 1 end
if not known then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
local after = redis.call('HGET', KEYS[1], 'progress')
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= known or math.floor(100 * (tonumber(before) or 0)) ~= math.floor(100 * (tonumber(after) or 0)) then
  tell('job', ARGV[1])
end
return 0
"""
)

# A worker has the song. Of one that goes on in parts it is not the start.
# KEYS: job hash. ARGV: id, now. Returns 1 if the job was cancelled.
BEGIN = (
    news.LUA
    + """
local known, cancel, rounds = unpack(redis.call('HMGET', KEYS[1], 'state', 'cancel', 'rounds'))
if cancel then return 1 end
if not known then return 0 end
redis.call('HSET', KEYS[1], 'state', 'separating', 'updated_ms', ARGV[2], 'error', '')
if not rounds then redis.call('HSET', KEYS[1], 'started_ms', ARGV[2], 'progress', 0, 'left_s', '') end
tell('job', ARGV[1])
return 0
"""
)

# A worker tells how far a part is. The song's progress goes from `begin` to `end` while its parts are made; one that is
# not on its way (after Redis lost its data, say) tells nothing. In steps of 1 % it is news.
# KEYS: job hash of the song, PARTS of the song. ARGV: part, progress, now, song.
# Returns 1 if the song was cancelled, failed or is gone: the part is not wanted any more.
PART = (
    news.LUA
    + SUM
    + """
local state, cancel = unpack(redis.call('HMGET', KEYS[1], 'state', 'cancel'))
if cancel or state == 'cancelled' or state == 'failed' or state == 'dropped' or state == 'gone' then return 1 end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
sum(ARGV[4], ARGV[3])
return 0
"""
)

# A job that waits, or whose parts are on their way, leaves the line; of one that is being delivered its worker is told,
# and SETTLE does not let it wait again. Of one that is only announced (ARGV from uploaded_ms on) it is noted, for
# CLAIM, that nothing is to be done. What remains is known by CLAIM for a while; the tag on the upload is for ever.
# KEYS: job hash, WAITING, ATTEMPTS. ARGV: id, ttl_s, now, uploaded_ms, bucket, key, etag (or none of the last four).
# Returns cancelled, or the state in which nothing can be cancelled; nothing when no such job is known.
CANCEL = (
    news.LUA
    + DROP_PARTS
    + GIVE_UP
    + """
local id = ARGV[1]
local state, relay, uploaded = unpack(redis.call('HMGET', KEYS[1], 'state', 'relay', 'uploaded_ms'))
local parted = drop_parts(id)
local waits = redis.call('ZREM', KEYS[2], id) == 1 or parted
if not waits and relay and redis.call('SISMEMBER', 'stems:delivering:' .. relay, id) == 1 then
  redis.call('HDEL', KEYS[1], 'again')
  redis.call('HSET', KEYS[1], 'cancel', '1', 'state', 'cancelled', 'updated_ms', ARGV[3])
  tell('job', id)
  return 'cancelled'
end
if not waits and state and state ~= 'waiting' then return state end
if not waits and not ARGV[4] then return state and '' or false end
redis.call('HDEL', KEYS[3], id)
redis.call('HDEL', KEYS[1], 'record', 'again', 'error')
give_up(id)
if ARGV[4] and not (waits and uploaded) then
  redis.call('HSET', KEYS[1], 'uploaded_ms', ARGV[4], 'bucket', ARGV[5], 'key', ARGV[6], 'etag', ARGV[7])
end
redis.call('HSET', KEYS[1], 'state', 'cancelled', 'updated_ms', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
tell('job', id)
return 'cancelled'
"""
)

# An upload that was put just now, and is announced any moment, is a job already: its address answers. It stands in no
# line; CLAIM enters it. Where the same upload was a job before, it waits again.
# KEYS: job hash, WAITING, DEAD. ARGV: id, ttl_s, now, uploaded_ms, bucket, key, etag.
EXPECT = (
    news.LUA
    + """
local id = ARGV[1]
local known, relay = unpack(redis.call('HMGET', KEYS[1], 'uploaded_ms', 'relay'))
if redis.call('ZSCORE', KEYS[2], id) or redis.call('EXISTS', 'stems:parts:' .. id) == 1 then return 0 end
if relay and redis.call('SISMEMBER', 'stems:delivering:' .. relay, id) == 1 then return 0 end
if known and tonumber(known) >= tonumber(ARGV[4]) then return 0 end
redis.call('ZREM', KEYS[3], id)
redis.call('HDEL', KEYS[1], 'error', 'progress', 'left_s', 'songhash', 'record', 'attempts', 'uploaded_ms',
  'started_ms')
redis.call('HSET', KEYS[1], 'state', 'waiting', 'bucket', ARGV[5], 'key', ARGV[6], 'etag', ARGV[7])
redis.call('HSET', KEYS[1], 'updated_ms', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
tell('job', id)
return 1
"""
)

RETRY = (
    news.LUA
    + """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[4], 'payload') == 1 then
  redis.call('RPUSH', KEYS[5], redis.call('HGET', KEYS[4], 'payload'))
  redis.call('DEL', KEYS[4])
else
  redis.call('HDEL', KEYS[4], 'error', 'tries', 'rounds')
  redis.call('HSET', KEYS[4], 'state', 'waiting')
  redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
end
if not ARGV[1]:find('^[rw]') then tell('job', ARGV[1]) end
return 1
"""
)

DROP = (
    news.LUA
    + GIVE_UP
    + """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'state', 'dropped')
give_up(ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
if not ARGV[1]:find('^[rw]') then tell('job', ARGV[1]) end
return 1
"""
)
