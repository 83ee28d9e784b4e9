// Package torqbridge lets Torq's services move from their three relays to the bus one
// by one, run on both meanwhile, and go back. It is the only package that knows the
// relays; codec knows their messages, and the bus knows neither.
//
// # What is where
//
//	old producers --+                                      +--> old consumers
//	                |      +--------- domain ---------+    |
//	                +----> | clients --> ingest --> hub |--+
//	                       |               |       ^    |
//	                       |            mapping    |    |
//	                       |               v       |    |
//	  publishers -----> topics on the bus ---------+    | -----> subscribers
//	                       |                            |
//	                       | mirror, comparison         |
//	                       +-----+----------------------+
//	                             v  ^
//	                          old relay <--> its own producers and consumers
//
// A domain is one relay's: market_data, signals, execution. Whatever arrives on its
// socket, from whoever is connected, is published on the topic that its content gives
// (Mapping) and goes to every connection, in the order in which it arrived: a relay's
// broadcast. What other publishers put on the domain's topics goes to every
// connection, too.
//
// A client under load has two threads of its own for as long as that lasts (socket); up
// to 32 clients at once.
//
// # Modes
//
//	legacy ------------> shadow ------------> bus       moves and what they take: plan,
//	       <------------        <------------           in machine.go
//
//	          public socket    bridge's socket        mirror, comparison
//	legacy    relay            none                   no
//	shadow    relay            SOCKET.bus             yes
//	bus       bridge           the public one         while the relay, at SOCKET.legacy, lives
//
// # What a peer of the bridge sees
//
// What it saw of the relay, but for the relay's faults:
//
//   - no framing, no hello, no roles; each message by one write while the peer keeps up;
//   - its own messages come back (echo);
//   - nothing is replayed to who comes late, and who is more than 10,000 messages
//     behind loses the oldest; nobody is held up by a client that does not read;
//   - a client that shuts down one direction keeps the other;
//   - the greeting of producers is absorbed;
//   - messages are cut by their length, whatever the reads were: none is lost because
//     two came together or one came in two. A header that announces more than the cap
//     is none; the next plausible one is looked for.
//
// It also holds up a producer whose messages the bus has no room for, where the
// topic's policy blocks: a lossless subscriber loses nothing.
//
// # Invariants
//
//   - J1: bytes of a message are never changed.
//   - J2: what a connection sends is published, and delivered to every socket, in that
//     order.
//   - J3: a message is delivered once to each connection: what comes from the bus and
//     is the bridge's own is not delivered again, what comes from the relay is not
//     sent to it, and its echo of what was sent to it is recognised.
//   - J4: the public name leads to the relay or to the bridge, never to nobody, but
//     for the milliseconds in which a rollback drains producers.
//   - J5: whatever is not delivered is counted, with its reason, in Status.
//
// Validation of messages is codec's: the bridge cuts, maps and carries what Torq's
// relays carried.
package torqbridge
