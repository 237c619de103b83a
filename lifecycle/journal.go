package lifecycle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// journal knows which version of each thread the target has. Its file has a line for each change, and one for the begin and end
// of each pass. A torn last line is left out.
type journal struct {
	mu    sync.Mutex
	file  *os.File // or nil
	rows  map[string]journalled
	epoch string // of the source's versions
	pass  int    // of this run
	err   error  // of the first write that failed
	clean bool   // the last pass in the file has ended, so no write to the target is under way
}

type journalled struct {
	version, target uint64 // of the source, and of the target when it had that version
	known           bool
	pass            int // the last pass that found the thread
}

type journalLine struct {
	Format  int    `json:"chatstore_journal,omitempty"` // of the line that begins a pass
	Epoch   string `json:"epoch,omitempty"`
	End     bool   `json:"end,omitempty"`
	ID      string `json:"id,omitempty"`
	Version uint64 `json:"version,omitempty"` // of the source
	Target  uint64 `json:"target,omitempty"`  // version
}

// journalFormat is the number of the format. journalHead begins every file.
const (
	journalFormat = 1
	journalHead   = `{"chatstore_journal":`
)

func newJournal() *journal { return &journal{rows: map[string]journalled{}, clean: true} }

// openJournal reads the journal. Without a path it is only in memory.
func openJournal(path string) (*journal, error) {
	j := newJournal()
	if path == "" {
		return j, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j.file = file
	size, err := j.load(bufio.NewReader(file))
	if err == nil {
		err = file.Truncate(size)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lifecycle: the journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

// load reads the whole lines, and returns their length.
func (j *journal) load(r *bufio.Reader) (size int64, err error) {
	for n := 1; ; n++ {
		text, err := readLine(r)
		if n == 1 && !bytes.HasPrefix(text, []byte(journalHead)) && !bytes.HasPrefix([]byte(journalHead), text) {
			return 0, errors.New("this is no journal")
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		var l journalLine
		if err == nil {
			err = json.Unmarshal(text, &l)
		}
		if err == nil && l.Format > journalFormat {
			err = fmt.Errorf("format %d is newer than this program", l.Format)
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", n, err)
		}
		size += int64(len(text))
		j.clean = l.End
		switch {
		case l.Format > 0:
			j.turn(l.Epoch)
		case l.ID != "":
			j.rows[l.ID] = journalled{version: l.Version, target: l.Target, known: true}
		}
	}
}

// turn sets the epoch. Versions of another one mean nothing.
func (j *journal) turn(epoch string) {
	if epoch != j.epoch {
		j.epoch = epoch
		for id := range j.rows {
			j.rows[id] = journalled{}
		}
	}
}

func (j *journal) write(l journalLine) error {
	if j.file == nil {
		return nil
	}
	if j.err == nil { // behind a torn line, another one would spoil the file
		_, j.err = j.file.Write(append(appendJSON(nil, l), '\n'))
	}
	return j.err
}

// begin begins a pass over a source of this epoch. Its line is on the disk before the pass writes to the target.
func (j *journal) begin(epoch string) error {
	j.turn(epoch)
	j.pass++
	err := j.write(journalLine{Format: journalFormat, Epoch: epoch})
	if err == nil && j.file != nil {
		err = j.file.Sync()
	}
	return err
}

func (j *journal) end() error { return j.write(journalLine{End: true}) }

// note notes that the target has the source's version of the thread, at a version of its own.
func (j *journal) note(id string, version, target uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := journalled{version, target, true, j.pass}
	if j.rows[id] == now {
		return nil
	}
	j.rows[id] = now
	return j.write(journalLine{ID: id, Version: version, Target: target})
}

// has reports whether both stores have the thread as it was noted. Another target, or one that was restored, has it otherwise.
func (j *journal) has(id string, version, target uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.rows[id]
	return r.known && r.version == version && r.target == target
}

// see reports whether this pass has not found the thread before.
func (j *journal) see(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.rows[id]
	if r.pass == j.pass {
		return false
	}
	r.pass = j.pass
	j.rows[id] = r
	return true
}

// unseen returns the threads that this pass has not found.
func (j *journal) unseen() (ids []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id, r := range j.rows {
		if r.pass != j.pass {
			ids = append(ids, id)
		}
	}
	return ids
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
