package router

type getWelcomeInput struct {
	ConvoID string `json:"convoId" xrpc:"required"`
}

type getWelcomeOutput struct {
	ConvoID string `json:"convoId"`
	Welcome []byte `json:"welcome"` // base64, which is how encoding/json writes bytes
	Epoch   int64  `json:"epoch"`
	Seq     int64  `json:"seq"`
}

// getWelcome returns the caller's newest welcome.
func (rt *Router) getWelcome(c *call, in *getWelcomeInput) (getWelcomeOutput, error) {
	convo, err := c.about(in.ConvoID)
	if err != nil {
		return getWelcomeOutput{}, err
	}
	w, err := rt.config.Store.Welcome(c.ctx, convo, c.caller)
	if err != nil {
		return getWelcomeOutput{}, err
	}
	if err := rt.inFlight.hold(c, int64(len(w.Data))*7/3); err != nil {
		return getWelcomeOutput{}, err
	}
	return getWelcomeOutput{ConvoID: convo, Welcome: notNil(w.Data), Epoch: w.Epoch, Seq: w.Seq}, nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{} // nil would be null
	}
	return b
}

type confirmWelcomeInput struct {
	ConvoID      string `json:"convoId" xrpc:"required"`
	Success      bool   `json:"success" xrpc:"required"`
	ErrorDetails string `json:"errorDetails"`
}

type confirmWelcomeOutput struct {
	Confirmed bool `json:"confirmed"`
}

// confirmWelcome records whether the caller could join by their welcome. What
// went wrong is the client's own text: it is not logged, since nobody knows what
// it holds, but that something did.
func (rt *Router) confirmWelcome(c *call, in *confirmWelcomeInput) (confirmWelcomeOutput, error) {
	convo, err := c.about(in.ConvoID)
	if err != nil {
		return confirmWelcomeOutput{}, err
	}
	if err := rt.config.Store.ConfirmWelcome(c.ctx, convo, c.caller, in.Success); err != nil {
		return confirmWelcomeOutput{}, err
	}
	if !in.Success {
		rt.log.InfoContext(c.ctx, "a client could not join by its welcome",
			"request_id", c.trail.id, "convo", convo, "did", c.caller, "details_bytes", len(in.ErrorDetails))
	}
	return confirmWelcomeOutput{Confirmed: true}, nil
}
