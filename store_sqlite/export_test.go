package storesqlite

// FileAt has records filed by time after every n of them.
func (s *Store) FileAt(n int64) { s.fileAt = n }
