package sharing

import (
	"context"

	"github.com/chatstore/chatstore/internal/confine"
)

func init() { confine.Gate(func(g Grants, gate confine.WriteGate) Grants { return gated{g, gate} }) }

// gated are Grants that are found past a layer that may refuse writes.
type gated struct {
	Grants
	gate confine.WriteGate
}

func (g gated) Grant(ctx context.Context, grant Grant) error {
	if err := g.gate.WriteRefusal(); err != nil {
		return err
	}
	return g.Grants.Grant(ctx, grant)
}

func (g gated) Revoke(ctx context.Context, threadID string, to Grantee) error {
	if err := g.gate.WriteRefusal(); err != nil {
		return err
	}
	return g.Grants.Revoke(ctx, threadID, to)
}
