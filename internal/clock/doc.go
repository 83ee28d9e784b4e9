// Package clock reads time for frame timestamps and for deadlines. Reading never
// allocates, and makes no system call as long as the kernel's own clock source is
// one that the vDSO can read (tsc, arch_sys_counter, a hypervisor's clock).
//
// # Clocks
//
//   - [Mono] is CLOCK_MONOTONIC of the host, about 25 ns a read, the same clock in
//     every process of the host.
//   - [TSC.Now] follows Mono through the processor's own counter, 10 ns a read.
//   - [Wall] is Unix time; it may be set back and forth, so only people read it.
//
// # How TSC follows Mono
//
// Mono against the counter is nearly a straight line whose slope changes a little
// as the kernel disciplines its clock. A TSC holds two lines, and Now uses the one
// its counter value falls on:
//
//	ns ^                          steady: the rate measured since the last
//	   |                       .  Recalibrate, through the truth at the join
//	   |                    .
//	   |                 o  <- join, slewNs after Recalibrate
//	   |              /
//	   |          /  slew: from what Now said to what is true by then
//	   |      o  <- Recalibrate
//	   +----------------------------> counter
//
// # Invariants
//
//  1. Readers see a pair of lines whole: it never changes once it is published.
//  2. Both lines rise, and they meet at the join. So time goes back only at a step.
//  3. A new pair begins where the old one was, unless that is more than maxSlewNs
//     off (a suspended host, a moved virtual machine). Only then does time step, to
//     the truth.
//  4. The slew has an end, so that a late or missing Recalibrate costs accuracy at
//     the rate of the drift, and never overshoots.
//
// Linux only.
package clock
