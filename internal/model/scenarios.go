package model

// Scenarios are the explorations of the default run. Every ring obeys G <= cap/2.
var Scenarios = []Scenario{
	{
		Name: "lap", Fear: "a lossy consumer that is lapped accepts torn bytes, loses count or never gets back in",
		Cap: 8, S: 2, Block: 2, Index: true, Lanes: 1, Wide: true,
		Ops: publish(0, 1), Messages: 7, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "lap long", Fear: "the same with longer frames, more padding and frames validated in pairs",
		Cap: 12, S: 3, Block: 3, Index: true, Lanes: 1,
		Ops: publish(1, 2), Messages: 7, Disguises: []Disguise{nextLap, lastEnd},
		Consumers: []Consumer{{Mode: Lossy, Batch: 2}},
	},
	{
		Name: "lap, other kinds", Fear: "old payload that passes for the PAD or the END of the coming lap is followed",
		Cap: 8, S: 2, Block: 2, Index: true, Lanes: 1,
		Ops: publish(0, 1), Messages: 7, Disguises: []Disguise{nextPad, nextEnd},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "lossless", Fear: "a lossless consumer misses a message or the pair stands still",
		Cap: 12, S: 3, Block: 3, Lanes: 1, Wide: true,
		Ops: publish(1, 2), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 3, Batch: 2}},
	},
	{
		Name: "batch", Fear: "part of a batch is seen before the rest",
		Cap: 12, S: 3, Block: 3, Index: true, Lanes: 1, CrashWrite: true,
		Ops: append(publish(1), batch(1, 1), batch(0, 1)), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "side by side", Fear: "a lossless and a lossy consumer on one lane disturb each other",
		Cap: 6, S: 2, Block: 2, Index: true, Lanes: 1, CrashWrite: true,
		Ops: publish(1), Messages: 6, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}, {Mode: Lossy, Batch: 1}},
	},
	{
		Name: "join", Fear: "a consumer that joins a running lane is overrun before the writer knows of it",
		Cap: 8, S: 2, Block: 2, Lanes: 1,
		Ops: publish(0, 1), Messages: 4, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Every: 2, Batch: 1}},
	},
	{
		Name: "history", Fear: "a lossless consumer that reads back before J takes torn history or loses its protection",
		Cap: 6, S: 2, Block: 2, Lanes: 1,
		Ops: publish(1), Messages: 7, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, History: true, Every: 2, Batch: 2}},
	},
	{
		Name: "evict", Fear: "an evicted consumer accepts torn bytes, is not told, or cannot come back",
		Cap: 6, S: 2, Block: 2, Lanes: 1, Evict: true, CrashWrite: true,
		Ops: publish(1), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, History: true, Rejoins: 1, Every: 2, Batch: 1}},
	},
	{
		Name: "two lossless", Fear: "two lossless consumers: one joins while the other holds the writer back",
		Cap: 6, S: 2, Block: 2, Lanes: 1,
		Ops: publish(1), Messages: 3, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}, {Mode: Lossless, Every: 2, Batch: 1}},
	},
	{
		Name: "join, policy evict", Fear: "a consumer is evicted before its join is answered",
		Cap: 6, S: 2, Block: 2, Lanes: 1, Evict: true,
		Ops: publish(1), Messages: 5, Disguises: []Disguise{nextLap},
		Consumers: []Consumer{{Mode: Lossless, Rejoins: 1, Every: 2, Batch: 1}},
	},
	{
		Name: "join and evict", Fear: "one consumer is evicted while the other joins: a change of the list is lost",
		Cap: 6, S: 2, Block: 2, Lanes: 1, Evict: true,
		Ops: publish(1), Messages: 5, Disguises: []Disguise{nextLap},
		Consumers: []Consumer{{Mode: Stopped, Member: true}, {Mode: Lossless, Every: 2, Batch: 1}},
	},
	{
		Name: "hostile", Fear: "a cursor that jumps ahead or back stops the writer or harms an honest consumer",
		Cap: 6, S: 2, Block: 2, Lanes: 1,
		Ops: publish(1), Messages: 6, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}, {Mode: Hostile, Member: true}},
	},
	{
		Name: "writer crash", Fear: "a writer dies at any instruction: an acknowledged message is lost or a false one found",
		Cap: 8, S: 2, Block: 2, Index: true, Lanes: 1, CrashWrite: true,
		Ops: publish(0, 1), Messages: 6, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "writer crash, lossless", Fear: "the same for a lossless consumer that is just joining",
		Cap: 6, S: 2, Block: 2, Lanes: 1, CrashWrite: true,
		Ops: publish(1), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Every: 2, Batch: 1}},
	},
	{
		Name: "consumer crash", Fear: "a dead lossless consumer holds the writer back for ever",
		Cap: 8, S: 2, Block: 2, Lanes: 1, CrashRead: true,
		Ops: publish(0, 1), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}},
	},
	{
		Name: "durable", Fear: "a durable consumer that restarts skips a message it had not handled",
		Cap: 8, S: 2, Block: 2, Lanes: 1, CrashRead: true, Durable: true,
		Ops: publish(0, 1), Messages: 4, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 1, Batch: 1}},
	},
	{
		Name: "restart", Fear: "a new incarnation is read too early, or an old frame is taken for a new one",
		Cap: 6, S: 2, Block: 2, Lanes: 2, CrashWrite: true,
		Ops: publish(1), Messages: 4, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}},
	},
	{
		Name: "restart, lossy", Fear: "the same for a lossy consumer that may be lapped in both lanes",
		Cap: 6, S: 2, Block: 2, Index: true, Lanes: 2, CrashWrite: true,
		Ops: publish(1), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "no room for END", Fear: "a lane closed without END ends at the wrong place",
		Cap: 8, S: 2, Block: 2, Lanes: 1, NoRoom: true,
		Ops: append(publish(1), Op{Kind: OpGap}), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}},
	},
	{
		Name: "gap frames", Fear: "an announced gap is miscounted by a consumer that is lapped around it",
		Cap: 8, S: 2, Block: 2, Index: true, Lanes: 1,
		Ops: append(publish(1), Op{Kind: OpGap}), Messages: 7, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "park", Fear: "a sleeper that was lapped on the way to bed is not woken",
		Cap: 6, S: 2, Block: 2, Index: true, Lanes: 1, Park: true, CrashWrite: true,
		Ops: publish(1), Messages: 5, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
	{
		Name: "park, lossless", Fear: "a sleeping lossless consumer holds a full lane, and neither side moves",
		Cap: 6, S: 2, Block: 2, Lanes: 1, Park: true, CrashWrite: true,
		Ops: publish(1), Messages: 6, Disguises: []Disguise{nextLap, lastLap},
		Consumers: []Consumer{{Mode: Lossless, Member: true, Every: 2, Batch: 1}},
	},
	{
		Name: "park on two lanes", Fear: "a consumer that sleeps on several lanes misses the wake of one",
		Cap: 6, S: 2, Block: 2, Lanes: 2, Parallel: true, Park: true,
		Ops: publish(1), Messages: 1, Disguises: []Disguise{nextLap},
		Consumers: []Consumer{{Mode: Lossy, Batch: 1}},
	},
}
