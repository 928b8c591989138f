package cluster

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Each script works on one key, so that they run on a cluster. An entry is
// "fence session node address"; what is not of that form counts as nothing. Fences are compared as decimal texts without
// leading zeros: Lua's numbers are not exact beyond 2^53.
var (
	// acquireScript: session, session found gone, holder, time to live.
	acquireScript = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
local fence = '0'
if v then
  local f, s = string.match(v, '^(%d+) (%S+) %S+ %S+$')
  if s == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return {1, v}
  end
  if s and s ~= ARGV[2] then return {0, v} end
  fence = f or fence
end
v = fence .. ' ' .. ARGV[3]
redis.call('SET', KEYS[1], v, 'PX', ARGV[4])
return {1, v}`)

	// fenceScript: fence, holder, time to live.
	fenceScript = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. ' ' .. ARGV[2]
if v and v ~= mine then
  local f = string.match(v, '^(%d+) %S+ %S+ %S+$')
  if f and not (#ARGV[1] > #f or (#ARGV[1] == #f and ARGV[1] > f)) then return 0 end
end
redis.call('SET', KEYS[1], mine, 'PX', ARGV[3])
return 1`)

	// releaseScript: session.
	releaseScript = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if v and string.match(v, '^%d+ (%S+) %S+ %S+$') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

	// touchScript: session, time to live.
	touchScript = redis.NewScript(`
local v = redis.call('GET', KEYS[1])
if v and string.match(v, '^%d+ (%S+) %S+ %S+$') == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`)
)

// scriptCall is one run of a script.
type scriptCall struct {
	key  string
	args []any
}

// runScript runs s once: by its hash, or by its text where the server does not
// know it yet.
func runScript(ctx context.Context, c redis.UniversalClient, s *redis.Script, call scriptCall) (any, error) {
	return s.Run(ctx, c, []string{call.key}, call.args...).Result()
}

// runScripts runs s once for each of calls in one round trip, and in a second
// one those that met a server that does not know the script yet.
func runScripts(ctx context.Context, c redis.UniversalClient, s *redis.Script, calls []scriptCall) ([]any, error) {
	cmds, err := pipelined(ctx, c, calls, s.EvalSha)
	if err != nil {
		return nil, err
	}
	var again []int
	var missed []scriptCall
	for i, cmd := range cmds {
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			again, missed = append(again, i), append(missed, calls[i])
		}
	}
	if len(missed) > 0 {
		retried, err := pipelined(ctx, c, missed, s.Eval)
		if err != nil {
			return nil, err
		}
		for j, i := range again {
			cmds[i] = retried[j]
		}
	}
	replies := make([]any, len(cmds))
	for i, cmd := range cmds {
		if replies[i], err = cmd.Result(); err != nil {
			return nil, err
		}
	}
	return replies, nil
}

type evaluate = func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// pipelined sends calls in one flight. It returns an error only if there was no
// answer; an answer may be an error of its own.
func pipelined(ctx context.Context, c redis.UniversalClient, calls []scriptCall, eval evaluate) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, len(calls))
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, call := range calls {
			cmds[i] = eval(ctx, p, []string{call.key}, call.args...)
		}
		return nil
	})
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) {
		return nil, err
	}
	return cmds, nil
}
