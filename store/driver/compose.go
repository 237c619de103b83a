package driver

import (
	"time"

	"github.com/chatstore/chatstore/internal/confine"
)

func init() { confine.Allow(func(w WriteBounder) WriteBounder { return confinedBound{w} }) }

type confinedBound struct{ w WriteBounder }

func (c confinedBound) LongestWrite() time.Duration { return c.w.LongestWrite() }
