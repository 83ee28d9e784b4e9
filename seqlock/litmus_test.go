package seqlock

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	watchdog = 60 * time.Second

	// A sound litmus runs until the reader saw this many different values or the
	// budget is used up, whichever comes first; on a loaded machine the two sides
	// may hardly ever run at once.
	litmusValues = 300_000
	litmusBudget = time.Second / 2

	litmusPayload = 16 // words
)

// litmusMemory is what the two sides share, laid over mem: the words lie 128 bytes
// apart, the payload and the cell are several lines long.
type litmusMemory struct {
	stop    *uint64 // set when the writer is to end
	flag    *uint64
	payload []uint64
	cell    Cell
}

const litmusBytes = 128 + 128 + 2*8*litmusPayload + 128

func litmusOver(mem []byte) (litmusMemory, error) {
	words, misaligned := wordsOf(mem)
	if misaligned != 0 || len(words) != litmusBytes/8 {
		return litmusMemory{}, fmt.Errorf("litmus memory: %d words, %d bytes off", len(words), misaligned)
	}
	cell, err := NewCell(mem[256+8*litmusPayload:])
	return litmusMemory{stop: &words[0], flag: &words[16], payload: words[32 : 32+litmusPayload], cell: cell}, err
}

func (m *litmusMemory) fill(i uint64) {
	for k := range m.payload {
		storeWord(&m.payload[k], i)
	}
}

// copyOut reads the payload from last word to first, against the writer's
// direction, so that a broken protocol shows sooner.
func (m *litmusMemory) copyOut(dst []uint64) {
	for k := len(m.payload) - 1; k >= 0; k-- {
		dst[k] = atomic.LoadUint64(&m.payload[k])
	}
}

// litmus is one protocol: write stores value i, i = 1, 2, 3, ...; read returns the
// value it saw, or no value (ok false), or an error when it saw what may not be.
// A mutant is a broken protocol that the harness has to catch.
type litmus struct {
	name   string
	mutant bool
	write  func(m *litmusMemory, i uint64)
	read   func(m *litmusMemory, dst []uint64) (value uint64, ok bool, err error)
}

var litmuses = []litmus{
	{name: "message passing", write: func(m *litmusMemory, i uint64) {
		m.fill(i)
		StoreRelease(m.flag, i)
	}, read: readMessage},
	{name: "message passing, flag before payload", mutant: true, write: func(m *litmusMemory, i uint64) {
		StoreRelease(m.flag, i)
		m.fill(i)
	}, read: readMessage},

	{name: "intent", write: func(m *litmusMemory, i uint64) {
		StoreRelease(m.flag, i)
		StoreStore()
		m.fill(i)
	}, read: readIntent},
	{name: "intent, payload before intent", mutant: true, write: func(m *litmusMemory, i uint64) {
		m.fill(i)
		StoreRelease(m.flag, i)
	}, read: readIntent},

	{name: "word", write: func(m *litmusMemory, i uint64) {
		w := (*Word)(m.flag)
		w.WriteBegin()
		m.fill(i)
		w.WriteEnd()
	}, read: readWord},
	{name: "word, no WriteBegin", mutant: true, write: func(m *litmusMemory, i uint64) {
		m.fill(i)
		(*Word)(m.flag).WriteEnd()
	}, read: readWord},

	{name: "cell", write: writeCell, read: func(m *litmusMemory, dst []uint64) (uint64, bool, error) {
		if !m.cell.Load(dst) {
			return 0, false, nil
		}
		return whole(dst)
	}},
	{name: "cell, no sequence word", mutant: true, write: writeCell, read: func(m *litmusMemory, dst []uint64) (uint64, bool, error) {
		for k := range dst {
			dst[k] = atomic.LoadUint64(&m.cell.words[k])
		}
		return whole(dst)
	}},
}

// readMessage: who sees flag i sees payload i, or a later one.
func readMessage(m *litmusMemory, dst []uint64) (uint64, bool, error) {
	flag := atomic.LoadUint64(m.flag)
	m.copyOut(dst)
	for k, v := range dst {
		if Before(v, flag) {
			return 0, false, fmt.Errorf("flag %d, but word %d of its payload is still %d", flag, k, v)
		}
	}
	return flag, true, nil
}

// readIntent: who saw payload i sees intent i, or a later one.
func readIntent(m *litmusMemory, dst []uint64) (uint64, bool, error) {
	m.copyOut(dst)
	LoadLoad()
	intent := atomic.LoadUint64(m.flag)
	for k, v := range dst {
		if After(v, intent) {
			return 0, false, fmt.Errorf("word %d of the payload is %d, but the intent is still %d", k, v, intent)
		}
	}
	return intent, true, nil
}

func readWord(m *litmusMemory, dst []uint64) (uint64, bool, error) {
	w := (*Word)(m.flag)
	seq, ok := w.ReadBegin()
	if !ok {
		return 0, false, nil
	}
	m.copyOut(dst)
	if w.ReadRetry(seq) {
		return 0, false, nil
	}
	return whole(dst)
}

func writeCell(m *litmusMemory, i uint64) {
	var v [litmusPayload]uint64
	for k := range v {
		v[k] = i
	}
	m.cell.Store(v[:])
}

func whole(dst []uint64) (uint64, bool, error) {
	for k, v := range dst {
		if v != dst[0] {
			return 0, false, fmt.Errorf("torn: word 0 is %d, word %d is %d", dst[0], k, v)
		}
	}
	return dst[0], true, nil
}

// runWriter stores until the reader says stop. It never runs longer than twice the
// watchdog, so that nothing is left behind if the reader was killed.
func runWriter(l litmus, m *litmusMemory) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	end := time.Now().Add(2 * watchdog)
	for i := uint64(1); atomic.LoadUint64(m.stop) == 0; i++ {
		l.write(m, i)
		if i%8 == 0 {
			Pause(uint32(i/8) % 32) // vary the rhythm, let readers of a Word in
		}
		if i%(1<<16) == 0 && time.Now().After(end) {
			return
		}
	}
}

// runReader reads until it has seen enough of a sound protocol or caught a mutant,
// and then stops the writer.
func runReader(t *testing.T, l litmus, m *litmusMemory) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer atomic.StoreUint64(m.stop, 1)
	start := time.Now()
	dst := make([]uint64, litmusPayload)
	var last uint64
	values := 0
	for i := 0; ; i++ {
		v, ok, err := l.read(m, dst)
		if err != nil {
			if l.mutant {
				t.Logf("caught after %d reads, %d values, %v: %v", i, values, time.Since(start), err)
			} else {
				t.Errorf("after %d reads: %v", i, err)
			}
			return
		}
		if ok && v != last {
			if Before(v, last) {
				t.Errorf("after %d reads: went back from %d to %d", i, last, v)
				return
			}
			last = v
			values++
		}
		if i%256 != 0 {
			continue
		}
		switch ran := time.Since(start); {
		case ran > watchdog:
			t.Errorf("nothing to report after %v: %d reads, %d values", ran, i, values)
			return
		case !l.mutant && values >= 2 && (values >= litmusValues || ran > litmusBudget):
			t.Logf("%d values in %d reads", values, i)
			return
		}
	}
}

func TestReaderOnAnotherThreadSeesWhatMayNotBe(t *testing.T) {
	for _, l := range litmuses {
		t.Run(l.name, func(t *testing.T) {
			m, err := litmusOver(newBytes(t, litmusBytes))
			if err != nil {
				t.Fatal(err)
			}
			var writer sync.WaitGroup
			writer.Go(func() { runWriter(l, &m) })
			runReader(t, l, &m)
			writer.Wait()
		})
	}
}

// TestPlainPayloadRacesWithItsReader hands plain words over with release stores
// alone: nothing to see without the race detector but a lost or early value.
func TestPlainPayloadRacesWithItsReader(t *testing.T) {
	const rounds = 2000
	var (
		flag, payload uint64
		ack           uint32
	)
	await := func(arrived func() bool) {
		for i := 0; !arrived(); i++ {
			if Pause(16); i%64 == 0 {
				runtime.Gosched()
			}
		}
	}
	endsWithin(t, func() {
		var writer sync.WaitGroup
		writer.Go(func() {
			for i := uint64(1); i <= rounds; i++ {
				payload = i * 7
				StoreRelease(&flag, i)
				await(func() bool { return atomic.LoadUint32(&ack) == uint32(i) })
			}
		})
		for i := uint64(1); i <= rounds; i++ {
			await(func() bool { return atomic.LoadUint64(&flag) == i })
			if payload != i*7 {
				t.Errorf("round %d: payload %d", i, payload)
			}
			StoreRelease32(&ack, uint32(i))
		}
		writer.Wait()
	})
}
