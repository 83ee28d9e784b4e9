package shm

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// Lanes that end leave the list that a sweep is walking.
func TestLanesThatEndInOneSweepDoNotTripIt(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d, err := OpenLocal("", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, err := d.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const lanes = 5
	for i := range lanes {
		p, err := c.Publisher(ctx, fmt.Sprintf("ended.%d", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Publish(0, nil); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Subscriber(ctx, "ended.*", &SubscriberOptions{Start: StartOldest()})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for len(got) < lanes || s.Stats().Lanes > 0 {
		if err := ctx.Err(); err != nil {
			t.Fatal(err, got, s.Stats().Lanes)
		}
		if _, err := s.Poll(func(f Frame) { got[s.TopicName(f.Topic)]++ }, 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range got {
		if n != 1 {
			t.Errorf("%s: %d frames", name, n)
		}
	}
}
