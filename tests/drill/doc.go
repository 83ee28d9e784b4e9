// Package drill moves a domain of Torq from its old relay to the bus and back while
// messages flow, with every party a process of its own, and counts what arrived.
// "make rollback-drill" runs it and prints the table.
package drill
