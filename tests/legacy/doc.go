// Package legacy is the old world of Torq as far as a socket shows it: a relay, its
// producers and its consumers, with their habits and their faults. Tests of the
// bridge measure themselves against it.
//
//	Producer --write--> +-------+ --write--> Consumer
//	Producer --write--> | Relay | --write--> Consumer
//	   ^                +-------+
//	   +-- its own messages come back, and it never reads them
//
// What one read of the relay returns is one item, whole messages or not: it is
// dropped if it does not begin with a header, and goes on unchanged otherwise, to
// every connection, the sender's included. A connection that is more than 10,000
// items behind loses the oldest. Nothing is replayed, nobody is held back, and no
// length is looked at.
package legacy
