//go:build ignore

// reader reads one lane of a Mycelium bus through a read-only mapping. It was
// written from docs/layout.md alone and shares no code with the Go packages; the
// numbers in parentheses are that document's sections and steps.
//
//	reader [--from oldest|latest] [--count N] [--hex] [--delay-us N] FILE
//	reader ... --fd N        the lane file is open as descriptor N
//	reader --check FILE      check page 0 and stop; "-" = a file name per line of stdin
//
// Lines on stdout:
//
//	reading TOPIC SOURCE SEQ     attached, and waits for that sequence
//	SEQ TYPE LEN TS CRC32C       a frame; with --hex the payload instead of its CRC32C
//	gap FROM NEXT                the sequences FROM to NEXT-1 are missing
//	end SEQ                      the lane has ended before that sequence
//
// Exit status: 0 at the end of the lane or after N frames, 1 for a lane that is
// refused or corrupt, 2 for a wrong command line.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "shared memory is little-endian"
#endif

enum {
	PREFIX = 0x408,
	RING = 0x4000,
	INTENT = 0x1000,
	TAIL = 0x1080,
	STATE = 0x1140,
	INDEX = 0x3000,
	ENTRIES = 256,
	HEADER = 32,
	DATA = 0,
	PAD = 1,
	GAP = 2,
	END = 3,
};

#define MAGIC UINT64_C(0x01454e414c43594d)
#define MAX_POS (UINT64_C(1) << 62)

typedef const _Atomic uint64_t shared64;
typedef const _Atomic uint32_t shared32;

typedef struct {
	int fd;
	const unsigned char *file;
	uint64_t bytes, cap, mask, step, first_pos, first_seq;
	uint32_t max_msg, shift;
	char topic[257], source[129];

	uint64_t p, want;
	bool loose; // a later sequence than want is a gap
	bool fresh; // want is not known: the next frame tells it

	// The last frame, copied and validated.
	uint64_t seq, ts, meta;
	uint64_t *payload;
} lane;

static uint64_t acq(const lane *l, uint64_t off) {
	return atomic_load_explicit((shared64 *)(l->file + off), memory_order_acquire);
}

static uint64_t rlx(const lane *l, uint64_t off) {
	return atomic_load_explicit((shared64 *)(l->file + off), memory_order_relaxed);
}

static uint64_t at(const lane *l, uint64_t pos) { return RING + (pos & l->mask); }

static void load_fence(void) { atomic_thread_fence(memory_order_acquire); }

static int64_t diff(uint64_t a, uint64_t b) { return (int64_t)(a - b); }

static uint64_t frame_bytes(uint64_t len) { return (HEADER + len + 31) & ~UINT64_C(31); }

static uint32_t crc32c(const void *bytes, size_t n) {
	const unsigned char *b = bytes;
	uint32_t c = UINT32_C(0xffffffff);
	for (size_t i = 0; i < n; i++) {
		c ^= b[i];
		for (int bit = 0; bit < 8; bit++)
			c = c >> 1 ^ (c & 1 ? UINT32_C(0x82f63b78) : 0);
	}
	return ~c;
}

static uint16_t u16(const unsigned char *b, size_t off) { uint16_t v; memcpy(&v, b + off, sizeof v); return v; }
static uint32_t u32(const unsigned char *b, size_t off) { uint32_t v; memcpy(&v, b + off, sizeof v); return v; }
static uint64_t u64(const unsigned char *b, size_t off) { uint64_t v; memcpy(&v, b + off, sizeof v); return v; }

// check_header takes a private copy of page 0 (4) and says why it is refused,
// or fills l and returns NULL.
static const char *check_header(lane *l, const unsigned char *b, uint64_t file_bytes) {
	uint64_t ready = u64(b, 0x400);
	if (u64(b, 0) == 0 && ready == 0)
		return "not ready: try again later";
	if (u64(b, 0) != MAGIC)
		return "not a lane: wrong magic";
	if (u16(b, 0x08) != 1)
		return "layout version is not 1.x: use a matching release";
	if (crc32c(b, 0x3fc) != u32(b, 0x3fc))
		return "header is corrupt: wrong CRC32C";
	l->bytes = u64(b, 0x10);
	l->cap = u64(b, 0x20);
	l->mask = l->cap - 1;
	l->max_msg = u32(b, 0x2c);
	l->shift = u32(b, 0x7c);
	l->first_pos = u64(b, 0xb0);
	l->first_seq = u64(b, 0xb8);
	l->step = u64(b, 0xc0);
	if (l->bytes != file_bytes)
		return "truncated: the file does not have the size that its header says";
	if (l->cap < 1 << 16 || l->cap > 1 << 30 || (l->cap & l->mask) != 0)
		return "impossible geometry: ring size";
	if (u32(b, 0x0c) != RING || u64(b, 0x18) != RING || l->bytes != RING + l->cap || u32(b, 0x28) != 32)
		return "impossible geometry: header, ring offset, file size or alignment";
	if (l->max_msg == 0 || l->max_msg > l->cap / 8)
		return "impossible geometry: largest message";
	if (l->step % 32 != 0 || l->step < (uint64_t)l->max_msg + 64 || l->step > l->cap / 4)
		return "impossible geometry: credit step";
	if (l->shift > 30 || UINT64_C(256) << l->shift != l->cap || u64(b, 0x38) >= 16384 || l->first_pos % 32 != 0 || l->first_pos < l->cap || l->first_pos - l->cap >= l->cap)
		return "impossible geometry: block shift, lane number or first position";
	if (ready != (MAGIC ^ u64(b, 0x40)))
		return "not ready: the ready word is not this lane's";
	memcpy(l->topic, b + 0x100, 256);
	memcpy(l->source, b + 0x200, 128);
	return NULL;
}

// lane_open checks and maps a lane file, or says why not. A descriptor that is
// not negative is used instead of the path.
static const char *lane_open(lane *l, const char *path, int fd) {
	struct stat st;
	unsigned char head[PREFIX];
	memset(l, 0, sizeof *l);
	l->fd = fd >= 0 ? fd : open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (l->fd < 0 || fstat(l->fd, &st) != 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode) || st.st_nlink > 1)
		return "not a lane: not a regular file with one name";
	if (st.st_size < RING || pread(l->fd, head, PREFIX, 0) != PREFIX)
		return "truncated: smaller than a header";
	const char *why = check_header(l, head, (uint64_t)st.st_size);
	if (why)
		return why;
	void *m = mmap(NULL, l->bytes, PROT_READ, MAP_SHARED, l->fd, 0);
	if (m == MAP_FAILED)
		return strerror(errno);
	l->file = m;
	l->payload = malloc(frame_bytes(l->max_msg));
	if (!l->payload)
		return strerror(errno);
	l->p = l->first_pos;
	l->want = l->first_seq;
	return NULL;
}

static void lane_close(lane *l) {
	if (l->file)
		munmap((void *)(uintptr_t)l->file, l->bytes);
	if (l->fd >= 0)
		close(l->fd);
	free(l->payload);
}

// overrun: bytes from pos on may have been overwritten.
static bool overrun(const lane *l, uint64_t pos) { return diff(acq(l, INTENT), pos) > (int64_t)l->cap; }

typedef enum { FRAME, NOTHING, LAPPED, SKIPPED, ENDED, CORRUPT, GAPPED } verdict;

// poll_lane is steps P1 to P7 (8). GAPPED stands for "report gap want .. seq-1":
// the frame after it, in l->seq, is delivered by the next call. With copy = false
// the payload stays where it is.
static verdict poll_lane(lane *l, bool copy) {
	uint64_t p = l->p, w = acq(l, at(l, p));
	if ((w & ~UINT64_C(6)) != (p | 1))
		return overrun(l, p) ? LAPPED : NOTHING;
	int kind = w >> 1 & 3;
	uint64_t meta = rlx(l, at(l, p) + 8), seq = rlx(l, at(l, p) + 16), ts = rlx(l, at(l, p) + 24);
	uint64_t len = meta & UINT32_MAX, size = frame_bytes(len);
	uint64_t lap = (p & ~l->mask) + l->cap;
	bool fits = len <= l->max_msg && p + size <= lap;
	if (copy && fits && kind == DATA) {
		for (uint64_t i = 0; i < size - HEADER; i += 8)
			l->payload[i / 8] = rlx(l, at(l, p) + HEADER + i);
	}
	load_fence();
	if (overrun(l, p))
		return LAPPED;
	switch (kind) {
	case PAD:
		l->p = lap;
		return SKIPPED;
	case END:
		l->seq = seq;
		return ENDED;
	case GAP:
		if (!fits || len < 8)
			return CORRUPT;
		l->p = p + size;
		l->loose = true;
		return SKIPPED;
	}
	if (!fits)
		return CORRUPT;
	if (l->fresh) {
		l->want = seq;
		l->fresh = false;
	}
	if (seq != l->want) {
		if (!l->loose || diff(seq, l->want) < 0)
			return CORRUPT;
		l->seq = seq;
		return GAPPED;
	}
	l->seq = seq;
	l->ts = ts;
	l->meta = meta;
	l->p = p + size;
	l->want = seq + 1;
	l->loose = false;
	return FRAME;
}

// resync is R1 to R3 (8).
static bool resync(lane *l) {
	uint64_t after = l->p;
	l->loose = true;
	for (int tries = 0; tries < ENTRIES; tries++) {
		uint64_t intent = acq(l, INTENT), best = 0;
		uint64_t from = intent > l->cap ? intent - l->cap : 0;
		uint64_t low = intent > l->cap ? from + l->step : 0;
		for (uint64_t i = 0; i < ENTRIES; i++) {
			uint64_t pos = acq(l, INDEX + 16 * i);
			if (pos == 0 || pos % 32 != 0 || (pos >> l->shift) % ENTRIES != i || pos < from || pos >= intent)
				continue; // (6)
			if (pos >= low && diff(pos, after) > 0 && (best == 0 || pos < best))
				best = pos;
		}
		if (best == 0)
			break;
		uint64_t w = acq(l, at(l, best)), seq = rlx(l, at(l, best) + 16);
		load_fence();
		if (w == (best | 1) && !overrun(l, best) && (l->fresh || diff(seq, l->want) >= 0)) {
			l->p = best;
			if (l->fresh)
				l->want = seq;
			l->fresh = false;
			return true;
		}
		after = best;
	}
	uint64_t tail = acq(l, TAIL + 8);
	if (tail % 32 == 0 && tail < MAX_POS && diff(tail, l->p) > 0 && !overrun(l, tail)) {
		l->p = tail;
		return true;
	}
	return false;
}

// read_tail reads the tail cell (5, cells).
static bool read_tail(const lane *l, uint64_t *pos, uint64_t *seq) {
	for (int tries = 0; tries < 100; tries++) {
		uint64_t before = acq(l, TAIL);
		*pos = rlx(l, TAIL + 8);
		*seq = rlx(l, TAIL + 16);
		load_fence();
		if (before % 2 == 0 && rlx(l, TAIL) == before)
			return true;
	}
	return false;
}

static void start_oldest(lane *l) {
	if (!overrun(l, l->first_pos))
		return;
	l->p = 0;
	l->fresh = true;
	resync(l);
}

static void start_latest(lane *l) {
	for (;;) {
		l->fresh = !read_tail(l, &l->p, &l->want);
		if (l->fresh)
			l->p = acq(l, TAIL + 8);
		if (l->p % 32 != 0 || l->p < l->first_pos || l->p >= MAX_POS) {
			l->p = l->first_pos; // no publisher stored that
			l->want = l->first_seq;
			return;
		}
		verdict v;
		do
			v = poll_lane(l, false);
		while (v == FRAME || v == SKIPPED);
		if (v != LAPPED)
			return;
	}
}

// gone asks the kernel whether the publisher's lock is free (8, End).
static bool gone(const lane *l) {
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	return fcntl(l->fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
}

static bool closed(const lane *l) {
	return atomic_load_explicit((shared32 *)(l->file + STATE), memory_order_acquire) >= 2;
}

static void nap(long us) {
	struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
	nanosleep(&t, NULL);
}

static void on_sigbus(int sig) {
	static const char why[] = "reader: the file was truncated under its reader\n";
	(void)sig;
	(void)!write(STDERR_FILENO, why, sizeof why - 1);
	_exit(1);
}

static void print_gap(uint64_t from, uint64_t next) { printf("gap %" PRIu64 " %" PRIu64 "\n", from, next); }

static void print_frame(const lane *l, bool hex) {
	uint64_t len = l->meta & UINT32_MAX;
	printf("%" PRIu64 " %u %" PRIu64 " %" PRIu64 " ", l->seq, (unsigned)(l->meta >> 32 & 0xffff), len, l->ts);
	const unsigned char *b = (const unsigned char *)l->payload;
	if (!hex) {
		printf("%08" PRIx32 "\n", crc32c(b, len));
		return;
	}
	for (uint64_t i = 0; i < len; i++)
		printf("%02x", b[i]);
	putchar('\n');
}

// read_lane prints frames until the end of the lane or the count.
static int read_lane(lane *l, uint64_t count, bool hex, long delay_us) {
	unsigned idle = 0;
	bool over = false; // nothing more will be committed
	printf("reading %s %s %" PRIu64 "\n", l->topic, l->source, l->want);
	fflush(stdout);
	for (uint64_t n = 0; n < count;) {
		verdict v = poll_lane(l, true);
		if (v != NOTHING)
			idle = 0;
		switch (v) {
		case FRAME:
			print_frame(l, hex);
			n++;
			if (delay_us) {
				fflush(stdout);
				nap(delay_us);
			}
			break;
		case GAPPED:
			print_gap(l->want, l->seq);
			l->want = l->seq;
			break;
		case LAPPED:
			if (!resync(l))
				nap(1);
			break;
		case SKIPPED:
			break;
		case ENDED:
			if (!l->fresh && diff(l->seq, l->want) > 0)
				print_gap(l->want, l->seq);
			printf("end %" PRIu64 "\n", l->seq);
			return 0;
		case CORRUPT:
			fflush(stdout);
			fprintf(stderr, "reader: lane is corrupt at position %" PRIu64 ", sequence %" PRIu64 " was due\n", l->p, l->want);
			return 1;
		case NOTHING:
			if (over) {
				printf("end %" PRIu64 "\n", l->want);
				return 0;
			}
			idle++;
			if (idle < 100)
				break;
			fflush(stdout);
			over = closed(l) || (idle % 100 == 0 && gone(l));
			if (!over)
				nap(50);
		}
	}
	return 0;
}

// check prints what lane_open says of a file.
static bool check(const char *path) {
	lane l;
	const char *why = lane_open(&l, path, -1);
	if (why)
		printf("refused: %s\n", why);
	else
		printf("ok: %s from %s, ring of %" PRIu64 " bytes\n", l.topic, l.source, l.cap);
	fflush(stdout);
	lane_close(&l);
	return why == NULL;
}

static int check_all(void) {
	char path[4096];
	while (fgets(path, sizeof path, stdin)) {
		path[strcspn(path, "\n")] = 0;
		check(path);
	}
	return 0;
}

static int usage(const char *wrong) {
	fprintf(stderr, "reader: %s\nusage: reader [--from oldest|latest] [--count N] [--hex] [--delay-us N] FILE|--fd N\n       reader --check FILE|-\n", wrong);
	return 2;
}

int main(int argc, char **argv) {
	const char *from = "oldest", *path = NULL;
	uint64_t count = UINT64_MAX;
	long delay_us = 0;
	int fd = -1;
	bool hex = false, only_check = false;
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (strcmp(a, "--hex") == 0)
			hex = true;
		else if (strcmp(a, "--check") == 0)
			only_check = true;
		else if (strcmp(a, "--from") == 0 && i + 1 < argc)
			from = argv[++i];
		else if (strcmp(a, "--count") == 0 && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 10);
		else if (strcmp(a, "--delay-us") == 0 && i + 1 < argc)
			delay_us = strtol(argv[++i], NULL, 10);
		else if (strcmp(a, "--fd") == 0 && i + 1 < argc)
			fd = atoi(argv[++i]);
		else if (path || (a[0] == '-' && a[1] != 0))
			return usage(a);
		else
			path = a;
	}
	if (!path == (fd < 0))
		return usage("name one lane file");
	bool oldest = strcmp(from, "oldest") == 0;
	if (!oldest && strcmp(from, "latest") != 0)
		return usage("--from takes oldest or latest");
	if (only_check)
		return strcmp(path, "-") == 0 ? check_all() : !check(path);

	lane l;
	const char *why = lane_open(&l, path, fd);
	if (why) {
		fprintf(stderr, "reader: %s: %s\n", path ? path : "descriptor", why);
		return 1;
	}
	signal(SIGBUS, on_sigbus);
	if (oldest)
		start_oldest(&l);
	else
		start_latest(&l);
	int status = read_lane(&l, count, hex, delay_us);
	if (fflush(stdout) != 0 || ferror(stdout))
		status = 1;
	lane_close(&l);
	return status;
}
