// Package encrypt seals the content of threads, items and attachments before the base stores it, with an AEAD of Tink.
//
// Use it if a database, its backups and its logs must not reveal what users wrote. Against a stolen disk, encrypt the disk
// instead: that needs no keys in the program. The base cannot search sealed content.
//
//	key, err := aead.New(handle) // a keyset of XChaCha20-Poly1305 keys
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), encrypt.New(key))
//
// Put it beneath authz and the cache. Around a guard, New's Middleware panics: authz must see the attachments of a message.
// XChaCha20-Poly1305 is recommended, because its random nonces are long enough for any number of rows.
//
// A row's whole JSON is sealed. Ids, times, types, owners and sizes stay readable. A sealed row is valid for every base.
// Without this layer an item loads, but [chat.DecodeItem] refuses it, and ChatKit's Python SDK fails to read a sealed message.
// A thread loads as active and without a title. A caller's own member chatstore_sealed is sealed and returned like any other.
//
// A text opens only in its own row: it is bound to the kind, id, thread id, type and time, but not to the owner. A moved or
// changed text is CodeInternal, never ErrNotFound, and fails a page that has it. Someone who can write to the database can make
// three changes that go unnoticed: put an older text back into its row, drop a row, and reorder items with equal times.
//
// To encrypt a base with plaintext, run every process with [WithPlaintext]. Wait for LongestWrite ([driver.WriteBounder]). Call
// [Reencrypt] with WithPlaintext and [WithPrimary], until it returns no error and Result.Saved is 0. Then run every process
// without it. Backups, and free pages and logs of the database, keep old plaintext. A plaintext row that has a member
// chatstore_sealed of its own does not load: change such rows first.
//
// To change the key:
//
//  1. Add the new key to the keyset of every process, as a secondary key.
//  2. Make it the primary key, in every process.
//  3. Wait for LongestWrite: an abandoned write may still save a row under the old key.
//  4. Walk: call Reencrypt with WithPrimary, until it returns no error and Result.Saved is 0.
//  5. Verify: call it again with an AEAD that lacks the old key. It must save nothing and return no error.
//  6. Disable the old key. Delete it when no backup needs it.
package encrypt
