package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/torq/mycelium/internal/config"
	"github.com/torq/mycelium/internal/control"
	"github.com/torq/mycelium/internal/layout"
)

// createPlan is what create --dry-run says.
type createPlan struct {
	Topic           string `json:"topic"`
	RingBytes       uint64 `json:"ring_bytes"`
	MaxMessageBytes uint64 `json:"max_message_bytes"`
	StepBytes       uint64 `json:"step_bytes"`
	Policy          string `json:"policy"`
	SegmentBytes    uint64 `json:"segment_bytes"`    // of shared memory for each publisher
	MessagesOf64    uint64 `json:"messages_of_64"`   // that a ring holds
	MessagesOfMax   uint64 `json:"messages_of_max"`  // likewise
	BusBytes        uint64 `json:"bus_bytes"`        // in use now
	BusLimitBytes   uint64 `json:"bus_limit_bytes"`  // 0 = none
	ShmFreeBytes    uint64 `json:"shm_free_bytes"`   // of the bus directory's file system
	BusFits         bool   `json:"bus_fits"`         // one more publisher has room there
	RegistryUp      bool   `json:"registry_running"` // else nothing is known of the bus
}

func newCreateCommand(a *app, path string) *cobra.Command {
	var ring, message, policy string
	var dry bool
	c := &cobra.Command{
		Use:   "create TOPIC",
		Short: "Create a topic ahead of its publishers",
		Long: `Create a topic that stays until it is deleted, with its own ring size, longest
message and policy; what is not given is as the registry's configuration says.
Nothing is allocated yet: each publisher gets a ring of its own when it attaches.
Topics without settings of their own need not be created.

--policy says what a publisher does about a lossless subscriber that is stuck
while the ring is full: block[:DURATION], evict[:DURATION] or fail.`,
		Example: "  myceliumctl " + path + "create market.kraken.BTC-USD --ring 4MiB --max-message 1KiB --policy evict:500ms\n" +
			"  myceliumctl " + path + "create market.kraken.BTC-USD --ring 64MiB --dry-run",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTopic(args[0]); err != nil {
				return err
			}
			spec, err := topicSpec(ring, message, policy)
			if err != nil {
				return err
			}
			if dry {
				return a.planCreate(cmd, args[0], spec)
			}
			client, err := a.dial(cmd.Context())
			if err != nil {
				return err
			}
			defer client.Close()
			if _, err := client.Request(cmd.Context(), &control.Message{Op: control.OpCreate, Topic: args[0], TopicSpec: spec}); err != nil {
				return err
			}
			t, err := inspectTopic(cmd.Context(), client, args[0])
			if err != nil {
				return err
			}
			return a.print(cmd, "topic", t, func(w io.Writer) {
				fmt.Fprintf(w, "created %s: ring %s, max message %s, policy %s\n", t.Topic, config.FormatSize(t.RingBytes), config.FormatSize(uint64(t.MaxMessageBytes)), t.Policy)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&ring, "ring", "", "`size` of each publisher's ring, a power of two from 64KiB to 1GiB")
	f.StringVar(&message, "max-message", "", "longest message, a `size` of at most an eighth of the ring")
	f.StringVar(&policy, "policy", "", "`what` to do about a stuck lossless subscriber: block[:DURATION], evict[:DURATION], fail")
	f.BoolVar(&dry, "dry-run", false, "print the arithmetic and create nothing")
	return c
}

// parseSize reads a flag that is a size above 0; 0 if it was not given.
func parseSize(flag, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	v, err := config.ParseSize(text)
	if err != nil {
		return 0, usagef("--%s: %w", flag, err)
	}
	if v == 0 {
		return 0, usagef("--%s: %q: must be above 0", flag, text)
	}
	return v, nil
}

// topicSpec reads the flags of create.
func topicSpec(ring, message, policy string) (*control.TopicSpec, error) {
	spec := &control.TopicSpec{}
	var g config.Geometry
	for _, f := range []struct {
		name, text string
		v          *uint64
	}{{"ring", ring, &g.RingBytes}, {"max-message", message, &g.MaxMessageBytes}} {
		var err error
		if *f.v, err = parseSize(f.name, f.text); err != nil {
			return nil, err
		}
	}
	if err := g.Validate(); err != nil {
		return nil, &usageError{err}
	}
	// What is not given gives way to what is, where the default would not fit.
	full := g.WithDefaults()
	if g.RingBytes == 0 && g.MaxMessageBytes != 0 && full.RingBytes > config.DefaultRingBytes {
		g.RingBytes = full.RingBytes
	}
	if g.MaxMessageBytes == 0 && g.RingBytes != 0 && full.MaxMessageBytes < config.DefaultMaxMessageBytes {
		g.MaxMessageBytes = full.MaxMessageBytes
	}
	spec.Ring, spec.MaxMsg = g.RingBytes, uint32(g.MaxMessageBytes)
	if policy != "" {
		p, err := config.ParsePolicy(policy)
		if err != nil {
			return nil, usagef("--policy: %w", err)
		}
		spec.Policy = &control.Policy{Kind: policyKind(p.Kind), Ns: int64(p.WithDefaults().Timeout)}
	}
	return spec, nil
}

func policyKind(k config.PolicyKind) string {
	return map[config.PolicyKind]string{config.PolicyBlock: "block", config.PolicyEvict: "evict", config.PolicyFail: "fail"}[k]
}

func policyText(p *control.Policy) string {
	if p.Ns == 0 {
		return p.Kind
	}
	return p.Kind + ":" + time.Duration(p.Ns).String()
}

// planCreate prints what create would make of a topic: what the registry says,
// or, if there is none, the configuration of this host.
func (a *app) planCreate(cmd *cobra.Command, name string, spec *control.TopicSpec) error {
	p, err := a.askPlan(cmd.Context(), name, spec)
	if exitCode(err) == exitUnreachable {
		p, err = configuredPlan(name, spec)
	}
	if err != nil {
		return err
	}
	p.SegmentBytes = p.RingBytes + layout.LaneHeaderBytes
	p.MessagesOf64, p.MessagesOfMax = p.RingBytes/layout.FrameBytes(64), p.RingBytes/layout.FrameBytes(p.MaxMessageBytes)
	p.BusFits = p.RegistryUp && (p.BusLimitBytes == 0 || p.BusBytes+p.SegmentBytes <= p.BusLimitBytes) && p.SegmentBytes <= p.ShmFreeBytes
	return a.print(cmd, "topic_plan", p, func(w io.Writer) {
		fmt.Fprintf(w, "would create %s\n", p.Topic)
		fmt.Fprintf(w, "ring         %s: %d messages of 64 B (%d B each with header and padding), or %d of %s\n", config.FormatSize(p.RingBytes),
			p.MessagesOf64, layout.FrameBytes(64), p.MessagesOfMax, config.FormatSize(p.MaxMessageBytes))
		fmt.Fprintf(w, "max message  %s (limit: an eighth of the ring, %s)\n", config.FormatSize(p.MaxMessageBytes), config.FormatSize(p.RingBytes/8))
		fmt.Fprintf(w, "policy       %s\n", p.Policy)
		fmt.Fprintf(w, "segment      %s of shared memory for each publisher: ring %s + header %s\n", config.FormatSize(p.SegmentBytes), config.FormatSize(p.RingBytes), config.FormatSize(layout.LaneHeaderBytes))
		switch {
		case !p.RegistryUp:
			fmt.Fprintln(w, "bus          unknown, no registry answers; values not given are those of the configuration on this host")
		default:
			limit, fits := "", "one more publisher fits"
			if p.BusLimitBytes > 0 {
				limit = " of " + humanBytes(float64(p.BusLimitBytes))
			}
			switch {
			case p.SegmentBytes > p.ShmFreeBytes:
				fits = "NOT ENOUGH for one more publisher: free shared memory, or give the bus directory's file system more"
			case !p.BusFits:
				fits = "NOT ENOUGH for one more publisher: delete topics, or raise registry.max_shm_bytes"
			}
			fmt.Fprintf(w, "bus          %s%s in use, %s free on its file system: %s\n", humanBytes(float64(p.BusBytes)), limit, humanBytes(float64(p.ShmFreeBytes)), fits)
		}
	})
}

// askPlan asks the registry, whose configuration counts.
func (a *app) askPlan(ctx context.Context, name string, spec *control.TopicSpec) (p createPlan, err error) {
	client, err := a.dial(ctx)
	if err != nil {
		return p, err
	}
	defer client.Close()
	r, err := client.Request(ctx, &control.Message{Op: control.OpPlan, Topic: name, TopicSpec: spec})
	if err != nil {
		return p, err
	}
	s, err := client.Request(ctx, &control.Message{Op: control.OpStats})
	if err != nil {
		return p, err
	}
	if len(r.Topics) != 1 || s.Stats == nil {
		return p, errors.New("the registry's answer is not one to plan-topic and stats")
	}
	t := &r.Topics[0]
	return createPlan{Topic: name, RingBytes: t.Ring, MaxMessageBytes: uint64(t.MaxMsg), StepBytes: t.Step, Policy: t.Policy,
		RegistryUp: true, BusBytes: s.Stats.ShmBytes, BusLimitBytes: s.Stats.ShmLimitBytes, ShmFreeBytes: s.Stats.ShmFreeBytes}, nil
}

func configuredPlan(name string, spec *control.TopicSpec) (p createPlan, err error) {
	cfg, err := config.Load(config.LoadOptions{KnownEnv: knownEnv})
	if err != nil {
		return p, err
	}
	tc, _ := cfg.TopicFor(name)
	g := tc.Geometry
	if spec.Ring != 0 || spec.MaxMsg != 0 {
		g.StepBytes = 0
	}
	if spec.Ring != 0 {
		g.RingBytes = spec.Ring
	}
	if spec.MaxMsg != 0 {
		g.MaxMessageBytes = uint64(spec.MaxMsg)
	}
	if err := g.Validate(); err != nil {
		return p, &usageError{err}
	}
	g = g.WithDefaults()
	p = createPlan{Topic: name, RingBytes: g.RingBytes, MaxMessageBytes: g.MaxMessageBytes, StepBytes: g.StepBytes, Policy: tc.Policy.String()}
	if spec.Policy != nil {
		p.Policy = policyText(spec.Policy)
	}
	return p, nil
}
