package shm

import (
	"context"
	"testing"
	"time"
)

func TestLocalRoundTrip(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d, err := OpenLocal("", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	pc, err := d.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sc, err := d.Client(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sc.Subscriber(ctx, "market.*.>", &SubscriberOptions{Mode: Lossless, Idle: IdlePark})
	if err != nil {
		t.Fatal(err)
	}
	p, err := pc.Publisher(ctx, "market.x.y", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := range 100000 {
			if _, err := p.Publish(7, []byte{byte(i), 2, 3}); err != nil {
				t.Error(err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	var n int
	for f, err := range s.Frames(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Seq != uint64(n) || f.Payload[0] != byte(n) || f.Type != 7 || s.TopicName(f.Topic) != "market.x.y" {
			t.Fatalf("frame %d: %+v", n, f)
		}
		if n++; n == 100000 {
			break
		}
	}
	t.Log(s.Stats())
	if err := sc.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pc.Close(); err != nil {
		t.Fatal(err)
	}
}
