package shm

import "github.com/torq/mycelium/internal/layout"

// Node is the identity of the host's bus: the origin node of the lanes that begin here.
func (c *Client) Node() layout.ID16 {
	if w := c.welcome.Load(); w != nil {
		return w.Node
	}
	return layout.ID16{}
}

// Bus is the name of the bus.
func (c *Client) Bus() string {
	if w := c.welcome.Load(); w != nil {
		return w.Bus
	}
	return ""
}
