package storesqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/acf68eca/usage/internal/pack"
	"github.com/acf68eca/usage/store"
)

// maxEntries bounds what is remembered of a dictionary; past it, it is forgotten and read again.
const maxEntries = 100_000

// dictionary remembers rows that have been read: the value of a number never changes once it is committed.
// It is safe for concurrent use.
type dictionary[V any] struct {
	mu     sync.RWMutex
	values map[int64]V
}

func (d *dictionary[V]) get(number int64) (v V, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, ok = d.values[number]
	return v, ok
}

func (d *dictionary[V]) put(number int64, v V) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.values == nil || len(d.values) >= maxEntries {
		d.values = make(map[int64]V)
	}
	d.values[number] = v
}

// dictionaries are what numbers stand for.
type dictionaries struct {
	texts  dictionary[string]
	rates  dictionary[store.Rate]
	models dictionary[modelName]
}

const selectText = `
SELECT value
FROM usage_texts
WHERE text = ?`

// text returns the text of a number; 0 is the empty text.
func (s *Store) text(ctx context.Context, q queryer, number int64) (string, error) {
	if number == 0 {
		return "", nil
	}
	known := &s.dictionaries(q).texts
	if text, ok := known.get(number); ok {
		return text, nil
	}
	var text string
	if err := q.GetContext(ctx, &text, selectText, number); err != nil {
		return "", dangling(err)
	}
	known.put(number, text)
	return text, nil
}

// rate returns the rate of a text's number.
func (s *Store) rate(ctx context.Context, q queryer, number int64) (store.Rate, error) {
	known := &s.dictionaries(q).rates
	if rate, ok := known.get(number); ok {
		return rate, nil
	}
	text, err := s.text(ctx, q, number)
	if err != nil {
		return store.Rate{}, err
	}
	rate, err := pack.ParseRate(text)
	if err == nil {
		known.put(number, rate)
	}
	return rate, err
}

type modelName struct {
	Provider string
	Name     string
}

const selectModel = `
SELECT provider, name
FROM usage_models
WHERE model = ?`

// model returns the provider and name of a model's number.
func (s *Store) model(ctx context.Context, q queryer, number int64) (modelName, error) {
	known := &s.dictionaries(q).models
	if m, ok := known.get(number); ok {
		return m, nil
	}
	var m modelName
	if err := q.GetContext(ctx, &m, selectModel, number); err != nil {
		return m, dangling(err)
	}
	known.put(number, m)
	return m, nil
}

// dictionaries returns what may be remembered of q: what the writer's own transaction reads may yet be rolled back, so
// it goes to the cache, which is then forgotten.
func (s *Store) dictionaries(q queryer) *dictionaries {
	if _, writing := q.(*tx); writing {
		return s.cache.known
	}
	return &s.known
}

// dangling says of a row that another names and that is not there that the database is damaged.
func dangling(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return store.ErrCorrupt
	}
	return err
}

const selectTextNumber = `
SELECT text
FROM usage_texts
WHERE value = ?`

const insertText = `
INSERT INTO usage_texts (value)
VALUES (?)
RETURNING text`

// textNumber returns the number of a text and gives it one when it has none.
func (t *tx) textNumber(ctx context.Context, text string) (number int64, err error) {
	if text == "" {
		return 0, nil
	}
	if number, ok := t.store.cache.texts[text]; ok {
		return number, nil
	}
	number, err = t.findOrAdd(ctx, selectTextNumber, insertText, text)
	if err == nil {
		t.store.cache.putText(text, number)
	}
	return number, err
}

// findOrAdd returns the number of a dictionary's row, of a new one when there is none.
func (t *tx) findOrAdd(ctx context.Context, find, add string, args ...any) (number int64, err error) {
	err = t.GetContext(ctx, &number, find, args...)
	if errors.Is(err, sql.ErrNoRows) {
		err = t.GetContext(ctx, &number, add, args...)
	}
	return number, err
}

// rateNumber returns the number of a rate's text.
func (t *tx) rateNumber(ctx context.Context, r store.Rate) (number int64, err error) {
	if number, ok := t.store.cache.rates[r]; ok {
		return number, nil
	}
	number, err = t.textNumber(ctx, pack.RateText(r))
	if err == nil {
		t.store.cache.putRate(r, number)
	}
	return number, err
}

const selectModelNumber = `
SELECT model
FROM usage_models
WHERE provider = ?
  AND name = ?`

const insertModel = `
INSERT INTO usage_models (provider, name)
VALUES (?, ?)
RETURNING model`

// modelNumber returns the number of a provider's model and gives it one when it has none.
func (t *tx) modelNumber(ctx context.Context, m modelName) (number int64, err error) {
	if number, ok := t.store.cache.models[m]; ok {
		return number, nil
	}
	number, err = t.findOrAdd(ctx, selectModelNumber, insertModel, m.Provider, m.Name)
	if err == nil {
		t.store.cache.putModel(m, number)
	}
	return number, err
}
