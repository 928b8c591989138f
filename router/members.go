package router

import (
	"catbird/conversation"
	"catbird/router/wire"
)

type addMembersInput struct {
	ConvoID          string      `json:"convoId" xrpc:"required"`
	DIDList          []string    `json:"didList" xrpc:"required"`
	Commit           wire.Base64 `json:"commit"`
	Welcome          wire.Base64 `json:"welcomeMessage"`
	KeyPackageHashes []hashInput `json:"keyPackageHashes"`
	IdempotencyKey   string      `json:"idempotencyKey"`
	ExpectedEpoch    *int64      `json:"expectedEpoch"`
}

// addMembers adds members to a conversation.
func (rt *Router) addMembers(c *call, in *addMembersInput) (changed, error) {
	return rt.changeMembers(c, in.ConvoID, in.IdempotencyKey, conversation.AddMembers{
		DIDs: in.DIDList, Commit: in.Commit, Welcome: in.Welcome,
		KeyPackages: keyPackageRefs(in.KeyPackageHashes), Expected: in.ExpectedEpoch,
	})
}

type leaveConvoInput struct {
	ConvoID        string      `json:"convoId" xrpc:"required"`
	TargetDID      string      `json:"targetDid"`
	Commit         wire.Base64 `json:"commit"`
	IdempotencyKey string      `json:"idempotencyKey"`
	ExpectedEpoch  *int64      `json:"expectedEpoch"`
}

// leaveConvo takes the caller, or another member, out of a conversation.
func (rt *Router) leaveConvo(c *call, in *leaveConvoInput) (changed, error) {
	return rt.changeMembers(c, in.ConvoID, in.IdempotencyKey, conversation.Leave{
		Target: in.TargetDID, Commit: in.Commit, Expected: in.ExpectedEpoch,
	})
}
