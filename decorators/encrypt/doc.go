// Package encrypt seals the content of threads, items and attachments before the base stores it, with an AEAD of Tink.
//
// Use it if the database, its backups and its logs must not reveal what users wrote. Without need of that, use the encryption
// of the disk: it costs no key handling. The base cannot search sealed content, and this package is no defence against a
// program that has the keys.
//
//	handle, err := keyset.Read(…) // of XChaCha20-Poly1305 keys: aead.XChaCha20Poly1305KeyTemplate
//	key, err := aead.New(handle)
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), encrypt.New(key))
//
// Put it beneath authz and the cache: authz then decides about the real attachments of a message, and the cache keeps opened
// values, in memory only. Around a guard, New's Middleware panics. XChaCha20-Poly1305 is recommended: its random nonces of 192
// bits do not repeat, however many rows a key seals. Take the AEAD of a keyset in memory. One that calls a key service does so
// for every row.
//
// # What is sealed
//
// A row's whole JSON is sealed, so members that this version does not know are sealed too. These stay readable: ids, thread
// ids, times of creation, types, owners, sizes, the number of rows, and when they change. A sealed row is a valid row of every
// base. Its text is in the member chatstore_sealed of an item or an attachment, and of a thread's metadata. Without this layer
// it loads, but [chat.DecodeItem] refuses it. ChatKit's Python SDK fails to read it. A value of a caller that has this member
// is sealed and returned like any other.
//
// A text opens only in its own row: it is bound to the row's kind, id, thread id, type and time, and not to its owner. A moved
// or changed text fails as CodeInternal, never as ErrNotFound. One such row fails the page that it is in. What goes unnoticed
// is the work of somebody who can write to the database:
//
//   - an older text of the same row, put back (replay),
//   - a row that was dropped,
//   - another order of items with equal times.
//
// # From plaintext
//
// Run all processes with [WithPlaintext], wait for the base's LongestWrite ([driver.WriteBounder]), call [Reencrypt] with
// WithPlaintext, and run all processes without it. Until then a writer of the database can put plaintext in place of a sealed
// row. Backups, and free pages and logs of the database, keep old plaintext.
//
// # A new key
//
//  1. Add the key to the keyset of every process, as a secondary one. Only then can all of them read its rows.
//  2. Make it the primary one, in every process.
//  3. Wait for LongestWrite: an abandoned write may still save a row with the old key.
//  4. Walk: call [Reencrypt] with [WithPrimary], until it returns no error.
//  5. Verify: call it again with an AEAD that lacks the old key. It opens every row. It must save none and return no error.
//  6. Disable the old key. Delete it when no backup needs it.
package encrypt
