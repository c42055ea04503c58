package usage

import (
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/acf68eca/usage/store"
	"pgregory.net/rapid"
)

// oneASecond gives a unit a second and five at once.
func oneASecond() rate { return rateOf(&store.Limit{Per: Second, Max: 1, Burst: 5}) }

func at(seconds string) time.Time {
	d, err := time.ParseDuration(seconds + "s")
	if err != nil {
		panic(err)
	}
	return time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC).Add(d)
}

func TestRateTable(t *testing.T) {
	t.Parallel()
	const never = -1
	for name, r := range map[string]rate{
		"1 a second, 5 at once":  oneASecond(),
		"60 a minute, 5 at once": rateOf(&store.Limit{Per: Minute, Max: 60, Burst: 5}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a store.Arrival
			for i, step := range []struct {
				at        string
				ask       int64
				remaining int64
				reset     time.Duration
				retry     time.Duration // of one that is denied
			}{
				{"0", 6, 5, 0, never},
				{"0", 1, 4, time.Second, 0},
				{"0", 1, 3, 2 * time.Second, 0},
				{"0", 1, 2, 3 * time.Second, 0},
				{"0", 1, 1, 4 * time.Second, 0},
				{"0", 1, 0, 5 * time.Second, 0},
				{"0", 1, 0, 5 * time.Second, time.Second},
				{"3.0", 1, 2, 3 * time.Second, 0},
				{"3.1", 1, 1, 3900 * time.Millisecond, 0},
				{"4.0", 1, 1, 4 * time.Second, 0},
				{"8.0", 1, 4, time.Second, 0},
				{"9.5", 1, 4, time.Second, 0},
				{"9.5", 0, 4, time.Second, 0},
				{"9.5", 2, 2, 3 * time.Second, 0},
				{"9.5", 5, 2, 3 * time.Second, 3 * time.Second},
				{"9.5", 2, 0, 5 * time.Second, 0},
				{"9.5", 0, 0, 5 * time.Second, 0},
				{"10.499999", 1, 0, 4000001 * time.Microsecond, time.Microsecond},
				{"10.5", 1, 0, 5 * time.Second, 0},
				{"1000", 5, 0, 5 * time.Second, 0},
			} {
				p := r.take(a, at(step.at), step.ask)
				a = p.arrival
				if p.remaining != step.remaining || p.reset != step.reset {
					t.Errorf("step %d: %d remain, all in %v; want %d and %v", i, p.remaining, p.reset, step.remaining, step.reset)
				}
				if denied := step.retry != 0; p.denied != denied || p.never != (step.retry == never) {
					t.Errorf("step %d: denied %t, never %t", i, p.denied, p.never)
				}
				if step.retry != never && p.retry != step.retry {
					t.Errorf("step %d: retry in %v, want %v", i, p.retry, step.retry)
				}
			}
		})
	}
}

// taken is an arrival after n units at an instant.
func taken(r rate, n int64, at time.Time) store.Arrival {
	return r.take(store.Arrival{}, at, n).arrival
}

func TestARateThatChangesGoesOnWithNoMoreThanItsBurstTaken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		to        rate
		remaining int64
		retry     time.Duration
	}{
		{"lowered to two at once", rateOf(&store.Limit{Per: Second, Max: 1, Burst: 2}), 0, time.Second},
		{"raised to ten at once", rateOf(&store.Limit{Per: Second, Max: 1, Burst: 10}), 5, 0},
		{"ten times as fast", rateOf(&store.Limit{Per: Second, Max: 10, Burst: 10}), 0, 100 * time.Millisecond},
		{"ten times as slow", rateOf(&store.Limit{Per: Second, Max: 1, Burst: 1}), 0, time.Second},
		{"to the same", oneASecond(), 0, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := test.to.take(taken(oneASecond(), 5, at("0")), at("0"), 1)
			if test.retry == 0 {
				p.remaining++ // the one just taken
			}
			if p.remaining != test.remaining || p.retry != test.retry || p.denied != (test.retry > 0) {
				t.Errorf("%+v, want %d remaining and retry in %v", p, test.remaining, test.retry)
			}
		})
	}
	if p := (rate{window: 1e6}).take(taken(oneASecond(), 1, at("0")), at("0"), 1); !p.never {
		t.Error("a rate of nothing gave something")
	}
}

func TestAClockThatGoesBackLocksNobodyOutForLongerThanABurst(t *testing.T) {
	t.Parallel()
	a := taken(oneASecond(), 3, at("100000"))
	p := oneASecond().take(a, at("0"), 1)
	if !p.denied || p.retry != time.Second || p.reset != 5*time.Second {
		t.Errorf("a day before: %+v, want a full burst taken", p)
	}
	if p := oneASecond().take(a, at("1"), 1); !p.denied || p.retry != time.Second {
		t.Errorf("a second later: %+v, want as much: nothing was written", p)
	}
	if p := oneASecond().take(a, at("99999.5"), 1); p.denied || p.remaining != 0 {
		t.Errorf("half a second before: %+v, want the 3 taken to count as 3.5", p)
	}
}

func TestRateRefund(t *testing.T) {
	t.Parallel()
	r := oneASecond()
	first := r.take(store.Arrival{}, at("0"), 2)
	second := r.take(first.arrival, at("0"), 3)
	for _, test := range []struct {
		name      string
		then      store.Arrival
		n         int64
		at        string
		remaining int64
	}{
		{"all of the last", second.arrival, 3, "0", 3},
		{"all of the last a little later", second.arrival, 3, "1", 4},
		{"what of the last has not come back", second.arrival, 3, "3.5", 5},
		{"the first, behind which the second waits", first.arrival, 2, "0", 2},
		{"half of the first", first.arrival, 2, "1", 2},
		{"none of the first any more", first.arrival, 2, "2", 2},
		{"long ago", first.arrival, 2, "1000", 5},
		{"a clock that went back", second.arrival, 3, "-1000", 3},
		{"a clock that is behind", second.arrival, 3, "-2", 1},
		{"a clock that is behind as far as one may be", second.arrival, 3, "-60", 0},
		{"nothing", second.arrival, 0, "0", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			after := r.refund(second.arrival, test.then, at(test.at), test.n)
			if p := r.take(after, at(test.at), 0); p.remaining != test.remaining {
				t.Errorf("%d remain, want %d", p.remaining, test.remaining)
			}
		})
	}
}

// A third of a microsecond too much in the bucket is no more cut off than two microseconds are.
func TestRateRefundIsExactWhereTheClockIsBehind(t *testing.T) {
	t.Parallel()
	r := rateOf(&store.Limit{Per: Second, Max: 3, Burst: 4})
	for ahead, want := range map[string]string{"1.333333": "1.000000", "1.333335": "1.000002"} {
		then := store.Arrival{At: at(ahead), Rest: 2, Taken: 5}
		if after := r.refund(then, then, at("0"), 1); !after.At.Equal(at(want)) || after.Rest != 1 {
			t.Errorf("%s seconds ahead: %+v, want a third of a second and a third of a microsecond less", ahead, after)
		}
	}
}

func TestRateCountsWhatWasUsedWithoutAsking(t *testing.T) {
	t.Parallel()
	r := oneASecond()
	full, one := taken(r, 5, at("0")), taken(r, 1, at("0"))
	for _, test := range []struct {
		name      string
		a         store.Arrival
		at, now   string
		n         int64
		over      bool
		remaining int64
	}{
		{"one", store.Arrival{}, "0", "0", 1, false, 4},
		{"all", store.Arrival{}, "0", "0", 5, false, 0},
		{"more than all", store.Arrival{}, "0", "0", 6, true, 0},
		{"one of a full bucket", full, "0", "0", 1, true, 0},
		{"one more", one, "0", "0", 1, false, 3},
		{"of a second ago", store.Arrival{}, "0", "1", 2, false, 4},
		{"of long ago", store.Arrival{}, "0", "1000", 5, false, 5},
		{"late, into what leaks still", full, "0", "3", 2, false, 1},
		{"late, after what had leaked", one, "0", "3", 3, false, 4},
		{"of a time that has not come", store.Arrival{}, "10", "0", 1, false, 4},
		{"one by a clock that is behind", full, "-2", "-2", 1, true, 0},
		{"none", full, "0", "0", 0, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, over := r.add(test.a, at(test.at), at(test.now), test.n)
			if p := r.take(a, at(test.now), 0); over != test.over || p.remaining != test.remaining {
				t.Errorf("over %t and %d remain, want %t and %d", over, p.remaining, test.over, test.remaining)
			}
		})
	}
}

// textbook is GCRA as it is written down, in rational microseconds.
type textbook struct {
	interval, burst *big.Rat // between two units; of a full burst
	arrival         *big.Rat
}

func (b *textbook) take(now int64, n int64) (remaining int64, retry *big.Rat) {
	t0 := new(big.Rat).SetInt64(now)
	arrival := new(big.Rat).Set(b.arrival)
	if latest := new(big.Rat).Add(t0, b.burst); arrival.Cmp(latest) > 0 {
		arrival = latest
	}
	if arrival.Cmp(t0) < 0 {
		arrival = t0
	}
	next := new(big.Rat).Add(arrival, new(big.Rat).Mul(b.interval, new(big.Rat).SetInt64(n)))
	allowed := new(big.Rat).Sub(next, b.burst)
	if retry = new(big.Rat).Sub(allowed, t0); retry.Sign() <= 0 {
		if arrival, retry = next, nil; n > 0 {
			b.arrival = next
		}
	}
	left := new(big.Rat).Sub(new(big.Rat).Add(t0, b.burst), arrival)
	left.Quo(left, b.interval)
	return new(big.Int).Quo(left.Num(), left.Denom()).Int64(), retry
}

func TestRateIsTheTextbooksExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := store.Limit{
			Per: rapid.SampledFrom([]Window{Minute, Second}).Draw(t, "per"), Max: rapid.Int64Range(1, maxRate).Draw(t, "max"),
			Burst: rapid.Int64Range(1, maxRate).Draw(t, "burst"),
		}
		if rapid.Bool().Draw(t, "few") {
			l.Max, l.Burst = 1+l.Max%100, 1+l.Burst%100
		}
		r := rateOf(&l)
		b := &textbook{interval: big.NewRat(r.window, r.max), arrival: new(big.Rat)}
		b.burst = new(big.Rat).Mul(b.interval, new(big.Rat).SetInt64(r.burst))
		var a store.Arrival
		now := at("0").UnixMicro()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now += rapid.Int64Range(-1_000, 3*r.window).Draw(t, "wait") / rapid.SampledFrom([]int64{1, 10, 1000}).Draw(t, "part")
			n := rapid.Int64Range(0, r.burst).Draw(t, "units") / rapid.SampledFrom([]int64{1, 7, 100}).Draw(t, "share")
			remaining, retry := b.take(now, n)
			p := r.take(a, time.UnixMicro(now), n)
			a = p.arrival
			if p.denied != (retry != nil) || p.remaining != remaining {
				t.Fatalf("denied %t, %d remain; want %t and %d", p.denied, p.remaining, retry != nil, remaining)
			}
			if retry != nil && p.retry != time.Duration(math.MaxInt64) {
				whole := new(big.Int).Quo(retry.Num(), retry.Denom()).Int64()
				if got := p.retry.Microseconds(); got != whole && got != whole+1 || new(big.Rat).SetInt64(got).Cmp(retry) < 0 {
					t.Fatalf("retry in %v µs, want %s", got, retry.FloatString(3))
				}
			}
		}
	})
}

// What is made, and not given back, between any two instants is at most a burst and what comes back between them.
func TestARateIsNeverPassedWhateverIsGivenBack(t *testing.T) {
	t.Parallel()
	type made struct {
		at   int64
		n    int64
		then store.Arrival
		gone bool
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rateOf(&store.Limit{Per: Second, Max: rapid.Int64Range(1, 5).Draw(t, "max"), Burst: rapid.Int64Range(1, 9).Draw(t, "burst")})
		var a store.Arrival
		var calls []made
		now := at("0").UnixMicro()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Int64Range(0, r.window).Draw(t, "wait") / rapid.SampledFrom([]int64{1, 5, 100, r.window + 1}).Draw(t, "part")
			if len(calls) > 0 && rapid.IntRange(0, 2).Draw(t, "give back") == 0 {
				c := &calls[rapid.IntRange(0, len(calls)-1).Draw(t, "which")]
				if !c.gone {
					a, c.gone = r.refund(a, c.then, time.UnixMicro(now), c.n), true
				}
				continue
			}
			n := rapid.Int64Range(1, r.burst).Draw(t, "units")
			if p := r.take(a, time.UnixMicro(now), n); !p.denied {
				a = p.arrival
				calls = append(calls, made{at: now, n: n, then: a})
			}
		}
		for i := range calls {
			var sum int64
			for _, c := range calls[i:] {
				if !c.gone {
					sum += c.n
				}
				if most := r.burst*r.window + (c.at-calls[i].at)*r.max; sum*r.window > most {
					t.Fatalf("%d units in %d µs, with %d a second and %d at once", sum, c.at-calls[i].at, r.max, r.burst)
				}
			}
		}
	})
}

// Calls that waited for each other come with clocks that are behind. Of any of them in a row no more is taken than what is
// given back, a burst, and what comes back between the earliest and the latest of their times.
func TestARateIsNotPassedByClocksThatAreBehind(t *testing.T) {
	t.Parallel()
	type step struct {
		at, taken int64 // taken is negative where something was given back
		then      store.Arrival
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rateOf(&store.Limit{Per: Second, Max: rapid.Int64Range(1, 5).Draw(t, "max"), Burst: rapid.Int64Range(1, 9).Draw(t, "burst")})
		var a store.Arrival
		var steps []step
		latest := at("0").UnixMicro()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			latest += rapid.Int64Range(0, r.window).Draw(t, "wait") / rapid.SampledFrom([]int64{1, 5, 100, r.window + 1}).Draw(t, "part")
			now := latest - rapid.Int64Range(0, 3*r.window).Draw(t, "lag")/rapid.SampledFrom([]int64{1, 100, 3*r.window + 1}).Draw(t, "part")
			n, instant := rapid.Int64Range(1, r.burst).Draw(t, "units"), time.UnixMicro(now)
			if p := r.take(a, instant, n); !p.denied {
				a = p.arrival
				steps = append(steps, step{now, n, a})
			} else if last := len(steps) - 1; last >= 0 && steps[last].taken > 0 && rapid.Bool().Draw(t, "give back") {
				a = r.refund(a, steps[last].then, instant, steps[last].taken)
				steps = append(steps, step{now, -steps[last].taken, a})
			} else if rapid.Bool().Draw(t, "used without asking") {
				a, _ = r.add(a, instant, instant, n) // counts as nothing, but must not make room
			}
		}
		for i := range steps {
			sum, from, to := int64(0), int64(math.MaxInt64), int64(0)
			for _, s := range steps[i:] {
				if sum += s.taken; s.taken > 0 {
					from, to = min(from, s.at), max(to, s.at)
				}
				if most := r.burst*r.window + max(0, to-from)*r.max; sum*r.window > most {
					t.Fatalf("%d units in %d µs, with %d a second and %d at once", sum, to-from, r.max, r.burst)
				}
			}
		}
	})
}

func FuzzRate(f *testing.F) {
	f.Add(int64(1), int64(5), true, int64(1), int64(0), int64(0), int64(0), int64(0))
	f.Add(int64(maxRate), int64(maxRate), false, int64(maxRate), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MinInt64), int64(1))
	f.Add(int64(0), int64(0), false, int64(1e15), int64(1), int64(-1), int64(7), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, limit, burst int64, minute bool, n, arrival, rest, taken, now int64) {
		l := store.Limit{Per: Second, Max: limit & (1<<33 - 1), Burst: burst & (1<<33 - 1)}
		if minute {
			l.Per = Minute
		}
		r := rateOf(&l)
		// What a store can hold, and a clock can say: some 140,000 years either way.
		a := store.Arrival{At: time.UnixMicro(arrival >> 1), Rest: rest & math.MaxInt64, Taken: taken}
		instant := time.UnixMicro(now >> 1)
		n &= 1<<50 - 1
		check := func(what string, p pace) {
			t.Helper()
			if p.remaining < 0 || p.remaining > r.burst || p.reset < 0 || p.retry < 0 {
				t.Errorf("%s: %+v of %+v", what, p, r)
			}
		}
		p := r.take(a, instant, n)
		check("take", p)
		if !p.denied && n > 0 && r.take(p.arrival, instant, r.burst).denied != (r.burst > 0) {
			t.Errorf("%d units were taken of %+v, and all are there", n, r)
		}
		added, _ := r.add(a, time.UnixMicro(arrival>>2), instant, n)
		check("add", r.take(added, instant, 0))
		back := r.take(r.refund(p.arrival, p.arrival, instant, n), instant, 0)
		check("refund", back)
		if back.remaining < r.take(p.arrival, instant, 0).remaining {
			t.Error("a refund took something")
		}
	})
}
