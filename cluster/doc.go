// Package cluster knows who is alive, who should own and who does own: the
// members (gossip), the ring (consistent hashing over those that are ready)
// and the lease (Redis), beside this node's session in the database.
//
//	             who is alive          who should own         who does own
//	many nodes   [Members], by gossip  [Ring], follows either [RedisLease]
//	one node     [Alone]               [Ring]                 [LocalLease]
//
// One node alone is an implementation, not a special case: [Alone] and
// [LocalLease] satisfy the same small interfaces, [Membership] and [Lease].
//
// None of the three is trusted with an invariant. Gossip lags, the ring
// differs between nodes for a moment, Redis may be lost, frozen or emptied;
// each only says where to ask first. What permits a node to serve is the claim
// in the database, under a session that the [Keeper] renews. So every error
// and every delay in this package costs a detour and never a wrong answer, and
// all calls are bounded in time: a part that does not answer is reported as
// such ([ErrRedisDown]) instead of being waited for.
//
// The package does not know what a conversation is: here it is a string to be
// hashed or to make a key of.
package cluster
