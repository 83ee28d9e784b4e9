package registry_test

import (
	"context"
	"fmt"
	"log"

	"github.com/torq/mycelium/registry"
	"github.com/torq/mycelium/shm"
)

// The README shows the bodies of these two; tests/docs_test.go compares them.

func Example_publisher() {
	ctx := context.Background()

	client, err := registry.Dial(ctx, "", nil)
	check(err)
	pub, err := client.Publisher(ctx, "market.kraken.BTC-USD", nil)
	check(err)
	_, err = pub.Publish(1, []byte("117250.5 0.02"))

	check(err)
}

func Example_subscriber() {
	ctx := context.Background()

	client, err := registry.Dial(ctx, "", nil)
	check(err)
	sub, err := client.Subscriber(ctx, "market.>", &shm.SubscriberOptions{Mode: shm.Lossless})
	check(err)
	for frame, err := range sub.Frames(ctx) {
		fmt.Println(sub.TopicName(frame.Topic), frame.Seq, string(frame.Payload), err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
