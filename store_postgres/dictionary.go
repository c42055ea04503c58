package storepostgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// dictionary is what this process knows of usage_texts and usage_models, both ways. Their rows are committed before any
// other row names them, and never change, so nothing in here is ever wrong. It is safe for concurrent use.
type dictionary struct {
	// resets counts how often all was forgotten, also what somebody had just read.
	resets       atomic.Int64
	mu           sync.RWMutex
	texts        map[int32]string
	textNumbers  map[string]int32
	models       map[int32]modelName
	modelNumbers map[modelName]int32
	rates        map[int32]store.Rate
	rateNumbers  map[store.Rate]int32
}

type modelName struct {
	Provider string
	Name     string
}

func newDictionary() *dictionary {
	d := new(dictionary)
	d.reset()
	return d
}

// reset leaves the empty text and the rate of nothing, which have the number 0.
func (d *dictionary) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resets.Add(1)
	d.texts, d.textNumbers = map[int32]string{0: ""}, map[string]int32{"": 0}
	d.models, d.modelNumbers = map[int32]modelName{}, map[modelName]int32{}
	d.rates, d.rateNumbers = map[int32]store.Rate{0: {}}, map[store.Rate]int32{{}: 0}
}

func (d *dictionary) text(number int32) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	text, ok := d.texts[number]
	return text, ok
}

func (d *dictionary) textNumber(text string) (int32, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	number, ok := d.textNumbers[text]
	return number, ok
}

func (d *dictionary) model(number int32) (modelName, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	name, ok := d.models[number]
	return name, ok
}

func (d *dictionary) modelNumber(name modelName) (int32, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	number, ok := d.modelNumbers[name]
	return number, ok
}

func (d *dictionary) rateNumber(r store.Rate) (int32, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	number, ok := d.rateNumbers[r]
	return number, ok
}

// rate returns the rate whose text has a number.
func (d *dictionary) rate(number int32) (store.Rate, error) {
	d.mu.RLock()
	rate, ok := d.rates[number]
	text, known := d.texts[number]
	resets := d.resets.Load()
	d.mu.RUnlock()
	if ok {
		return rate, nil
	}
	if !known {
		return store.Rate{}, dangling("text", number)
	}
	rate, err := pack.ParseRate(text)
	if err == nil {
		d.put(resets, func() { d.rates[number], d.rateNumbers[rate] = rate, number })
	}
	return rate, err
}

// dangling says of a row that another names and that is not there that the database is damaged.
func dangling(table string, number int32) error {
	return fmt.Errorf("%s %d does not exist: %w", table, number, store.ErrCorrupt)
}

// put takes what was read when all had been forgotten so many times, unless it has been again: then another server was asked.
func (d *dictionary) put(resets int64, take func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resets.Load() == resets {
		take()
	}
}

func (d *dictionary) putTexts(resets int64, rows []textRow) {
	d.put(resets, func() {
		for _, row := range rows {
			d.texts[row.Text], d.textNumbers[row.Value] = row.Value, row.Text
		}
	})
}

func (d *dictionary) putModels(resets int64, rows []modelRow) {
	d.put(resets, func() {
		for _, row := range rows {
			d.models[row.Model], d.modelNumbers[row.modelName] = row.modelName, row.Model
		}
	})
}

type textRow struct {
	Text  int32
	Value string
}

type modelRow struct {
	Model int32
	modelName
}

const selectTexts = `
SELECT text, value
FROM usage_texts
WHERE text = ANY ($1::integer[])`

const selectModels = `
SELECT model, provider, name
FROM usage_models
WHERE model = ANY ($1::integer[])`

// readNumbers sees to it that texts and models are known by their numbers.
func (s *Store) readNumbers(ctx context.Context, q queryer, texts, models []int32) error {
	texts = slices.DeleteFunc(texts, func(n int32) bool { _, ok := s.dictionary.text(n); return ok })
	models = slices.DeleteFunc(models, func(n int32) bool { _, ok := s.dictionary.model(n); return ok })
	if len(texts) > 0 {
		var rows []textRow
		if err := q.SelectContext(ctx, &rows, selectTexts, texts); err != nil {
			return err
		}
		s.dictionary.putTexts(q.resets(), rows)
	}
	if len(models) > 0 {
		var rows []modelRow
		if err := q.SelectContext(ctx, &rows, selectModels, models); err != nil {
			return err
		}
		s.dictionary.putModels(q.resets(), rows)
	}
	return nil
}

// words are texts and models that are about to be written.
type words struct {
	dictionary *dictionary
	texts      map[string]bool
	rates      map[store.Rate]bool
	models     map[modelName]bool
}

func (s *Store) newWords() *words {
	return &words{s.dictionary, make(map[string]bool), make(map[store.Rate]bool), make(map[modelName]bool)}
}

func (w *words) text(text string) {
	if _, ok := w.dictionary.textNumber(text); !ok {
		w.texts[text] = true
	}
}

func (w *words) model(provider, name string) {
	if _, ok := w.dictionary.modelNumber(modelName{provider, name}); !ok {
		w.models[modelName{provider, name}] = true
	}
}

func (w *words) lines(lines []store.Line) {
	for i := range lines {
		w.text(string(lines[i].Meter))
		if _, ok := w.dictionary.rateNumber(lines[i].Rate); !ok {
			w.rates[lines[i].Rate] = true
			w.text(pack.RateText(lines[i].Rate))
		}
	}
}

const selectTextNumbers = `
SELECT text, value
FROM usage_texts
WHERE value = ANY ($1::text[])`

const insertTexts = `
INSERT INTO usage_texts (value)
SELECT g.value
FROM unnest($1::text[]) AS g (value)
ON CONFLICT DO NOTHING`

const selectModelNumbers = `
SELECT m.model, m.provider, m.name
FROM unnest($1::text[], $2::text[]) AS g (provider, name)
JOIN usage_models AS m ON m.provider = g.provider AND m.name = g.name`

const insertModels = `
INSERT INTO usage_models (provider, name)
SELECT g.provider, g.name
FROM unnest($1::text[], $2::text[]) AS g (provider, name)
ON CONFLICT DO NOTHING`

// number sees to it that words have numbers, committed ones: in statements of their own, before the transaction that
// needs them, so that nobody waits for that one. They are sorted, so that two processes with the same words do not
// deadlock.
func (s *Store) number(ctx context.Context, w *words) error {
	if len(w.texts) > 0 {
		if err := s.numberTexts(ctx, w.texts); err != nil {
			return err
		}
	}
	if len(w.models) > 0 {
		if err := s.numberModels(ctx, w.models); err != nil {
			return err
		}
	}
	for rate := range w.rates {
		number, ok := s.dictionary.textNumber(pack.RateText(rate))
		if !ok {
			return unnumbered(pack.RateText(rate))
		}
		if _, err := s.dictionary.rate(number); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) numberTexts(ctx context.Context, wanted map[string]bool) error {
	for _, insert := range []bool{false, true} {
		texts := make([]string, 0, len(wanted))
		for text := range wanted {
			if _, ok := s.dictionary.textNumber(text); !ok {
				texts = append(texts, text)
			}
		}
		if len(texts) == 0 {
			return nil
		}
		slices.Sort(texts)
		if insert {
			if err := (committed{s}).ExecContext(ctx, insertTexts, texts); err != nil {
				return err
			}
		}
		resets := s.dictionary.resets.Load()
		var rows []textRow
		if err := (committed{s}).SelectContext(ctx, &rows, selectTextNumbers, texts); err != nil {
			return err
		}
		s.dictionary.putTexts(resets, rows)
	}
	return nil
}

func (s *Store) numberModels(ctx context.Context, wanted map[modelName]bool) error {
	for _, insert := range []bool{false, true} {
		var missing []modelName
		for name := range wanted {
			if _, ok := s.dictionary.modelNumber(name); !ok {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		slices.SortFunc(missing, func(a, b modelName) int {
			return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Name, b.Name))
		})
		providers, names := make([]string, len(missing)), make([]string, len(missing))
		for i, name := range missing {
			providers[i], names[i] = name.Provider, name.Name
		}
		if insert {
			if err := (committed{s}).ExecContext(ctx, insertModels, providers, names); err != nil {
				return err
			}
		}
		resets := s.dictionary.resets.Load()
		var rows []modelRow
		if err := (committed{s}).SelectContext(ctx, &rows, selectModelNumbers, providers, names); err != nil {
			return err
		}
		s.dictionary.putModels(resets, rows)
	}
	return nil
}
