package chatkit

import "fmt"

// Left returns what requests have left in the handler: "" when all have ended.
func (h *Handler) Left() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.turns)+len(h.locks)+h.running+len(h.users) == 0 {
		return ""
	}
	return fmt.Sprintf("%d turns, %d locks, %d running, %d users", len(h.turns), len(h.locks), h.running, len(h.users))
}
