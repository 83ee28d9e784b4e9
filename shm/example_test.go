package shm_test

import (
	"context"
	"fmt"

	"github.com/torq/mycelium/shm"
)

// bus stands for a running registry: registry.Dial(ctx, "", nil) gives the same
// client.
func bus() (*shm.LocalDirectory, *shm.Client) {
	d, err := shm.OpenLocal("", nil)
	if err != nil {
		panic(err)
	}
	c, err := d.Client(context.Background())
	if err != nil {
		panic(err)
	}
	return d, c
}

func ExampleClient_Publisher() {
	ctx := context.Background()
	d, client := bus()
	defer d.Close()
	defer client.Close()

	pub, err := client.Publisher(ctx, "market.kraken.BTC-USD", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pub.Close()
	seq, err := pub.Publish(1, []byte("117250.5 0.02"))
	fmt.Println(seq, err)
	// Output: 0 <nil>
}

func ExampleClient_Subscriber() {
	ctx := context.Background()
	d, client := bus()
	defer d.Close()
	defer client.Close()

	sub, err := client.Subscriber(ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	if err != nil {
		fmt.Println(err)
		return
	}
	go publishTwo(client)
	for f, err := range sub.Frames(ctx) {
		fmt.Println(sub.TopicName(f.Topic), f.Seq, string(f.Payload), err)
		if f.Seq == 1 {
			break
		}
	}
	// Output:
	// market.kraken.BTC-USD 0 117250.5 0.02 <nil>
	// market.kraken.BTC-USD 1 117250.6 0.01 <nil>
}

func publishTwo(client *shm.Client) {
	pub, err := client.Publisher(context.Background(), "market.kraken.BTC-USD", nil)
	if err != nil {
		panic(err)
	}
	for _, trade := range []string{"117250.5 0.02", "117250.6 0.01"} {
		if _, err := pub.Publish(1, []byte(trade)); err != nil {
			panic(err)
		}
	}
}

// A payload can be written in place.
func ExamplePublisher_Claim() {
	d, client := bus()
	defer d.Close()
	defer client.Close()
	pub, err := client.Publisher(context.Background(), "numbers", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pub.Close()
	claim, err := pub.Claim(2, 4)
	if err != nil {
		fmt.Println(err) // ErrBackpressure: a lossless subscriber is behind
		return
	}
	defer claim.Abort() // does nothing after Commit
	copy(claim.Bytes(), []byte{1, 2, 3, 4})
	fmt.Println(claim.Commit())
	// Output: 0
}
