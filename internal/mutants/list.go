package main

// The files that have the guards.
const (
	generationFile = "internal/generation/generation.go"
	coherenceFile  = "internal/coherence/coherence.go"
	flightFile     = "internal/flight/flight.go"
	layerFile      = "decorators/cache/layer.go"
	lookupFile     = "decorators/cache/lookup.go"
	missFile       = "decorators/cache/miss.go"
	patchFile      = "decorators/cache/patch.go"
	cachedThreads  = "decorators/cache/threads.go"
	cachedItems    = "decorators/cache/items.go"
	windowFile     = "decorators/cache/window.go"
	entryFile      = "decorators/cache/entry.go"
	shardsFile     = "decorators/cache/shards.go"
	cacheBusFile   = "decorators/cache/bus.go"
	sessionFile    = "bus/pubsub/session.go"
	peersFile      = "bus/pubsub/peers.go"
	scanFile       = "internal/jsondoc/scan.go"
	guardFile      = "decorators/authz/authz.go"
	threadsFile    = "decorators/authz/threads.go"
	itemsFile      = "decorators/authz/items.go"
	attachFile     = "decorators/authz/attachments.go"
	saveFile       = "decorators/authz/save.go"
	policyFile     = "decorators/authz/policy.go"
	grantsFile     = "decorators/authz/grants.go"
)

// The tests that must notice: whole checks, not the tests of the single guard.
const (
	inDecorators = "./internal/stacktest"
	inCache      = "./decorators/cache"
	inBus        = "./bus/pubsub"
	inChat       = "./chat"
	inMemstore   = "./memstore"

	linearizable = "^TestTheCacheIsLinearizable$"
	shared       = "^TestSingleflightIsLinearizable$"
	localBus     = "^TestTwoCachesOnALocalBusSeeEachOthersReturnedWrites$"
	noBus        = "^TestTwoCachesWithoutABusAreATTLStaleAtMost$"
	nobodyLearns = "^TestNobodyLearnsOfOthers$"
	faults       = "^TestWhateverGoesWrong$"
	guardAlone   = "^TestNobodyLearnsOfOthers$/^authz$"
	hostileBase  = "^TestNobodyIsShownWhatAHostileBaseHandsOut$/^authz$"
	troubledBus  = "^TestTwoCachesOnATroubledBusAreALeaseStaleAtMost$"
)

var mutants = []mutant{
	// --- generation words
	{
		name: "generation before and after the write",
		what: "a write moves its word only once it has returned",
		edits: []edit{
			{generationFile, "return Word(t.words[s].Add(generation+1) - (generation + 1))", "return t.Load(s)"},
			{generationFile, "t.words[s].Add(generation - 1)", "t.words[s].Add(generation)"},
			{generationFile, "return w + 2*generation", "return w + generation"},
			{generationFile, "t.quarantines[s] = q\n", "t.quarantines[s] = q\n\tt.words[s].Add(generation + 1)\n"},
		},
		pkg: inDecorators, test: linearizable,
	},
	{
		name:  "fill with the word read before the load",
		what:  "a fill is tagged with the word of its own time",
		edits: []edit{{missFile, "e := &entry{tag: m.Word, expires: l.expiry(begin)}", "e := &entry{tag: l.core.Words.Load(p.slot), expires: l.expiry(begin)}"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "no fill while a write is in progress",
		what:  "what was loaded during a write is stored under the word of its end",
		edits: []edit{{missFile, "if !m.Word.Idle() || !l.serving.Load() {\n\t\treturn\n\t}\n\tp := m.place\n\te := &entry{tag: m.Word,", "if !l.serving.Load() {\n\t\treturn\n\t}\n\tp := m.place\n\te := &entry{tag: l.core.Words.Load(p.slot),"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "no hit while a write is in progress",
		what:  "an entry answers until the write has returned",
		edits: []edit{{lookupFile, "if e == nil || e.tag != w {", "if e == nil || e.tag != w && w.Idle() {"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "quarantine after an unknown outcome",
		what:  "a write with an unknown outcome ends as any other",
		edits: []edit{{generationFile, "if d <= 0 || t.closed {", "if true {"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "quarantine after an unknown outcome (singleflight)",
		what:  "a write with an unknown outcome ends as any other",
		edits: []edit{{generationFile, "if d <= 0 || t.closed {", "if true {"}},
		pkg:   inDecorators, test: shared,
	},
	{
		name:  "a quarantine is extended by later ones",
		what:  "the first quarantine of a word ends all",
		edits: []edit{{generationFile, "if until.After(q.until) {", "if false {"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "a panic is an unknown outcome",
		what:  "a write that panics ends as one that had no effect",
		edits: []edit{{coherenceFile, "before := c.Words.Begin(s)\n", "before := c.Words.Begin(s)\n\tdefinite = true\n"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "an error that says nothing is an unknown outcome",
		what:  "every error of a write counts as a refusal",
		edits: []edit{{coherenceFile, "definite = store.IsDefinite(err) && !unsettled.Load()", "definite = !unsettled.Load()"}},
		pkg:   inDecorators, test: linearizable,
	},

	{
		name: "(pauses between all steps)",
		what: "nothing but wait between the steps of reads, fills, writes and patches, so that others come between",
		edits: []edit{
			{layerFile, "func (l *cached) Unwrap() store.Store     { return l.next }", "func pause() { time.Sleep(time.Duration(rand.IntN(30_000))) }\n\nfunc (l *cached) Unwrap() store.Store { return l.next }"},
			{cachedThreads, "w := l.core.Words.Load(p.slot)\n\t// An id", "w := l.core.Words.Load(p.slot)\n\tpause()\n\t// An id"},
			{cachedItems, "w := l.core.Words.Load(p.slot)\n\tlarger", "w := l.core.Words.Load(p.slot)\n\tpause()\n\tlarger"},
			{cachedItems, "w := l.core.Words.Load(p.slot)\n\tif e := l.lookup(p, h, w); e != nil {\n\t\tif it", "w := l.core.Words.Load(p.slot)\n\tpause()\n\tif e := l.lookup(p, h, w); e != nil {\n\t\tif it"},
			{missFile, "a, err := coherence.Direct(ctx, m.load)\n", "pause()\n\ta, err := coherence.Direct(ctx, m.load)\n\tpause()\n"},
			{patchFile, "begin := l.now()\n\t\t\te := l.known(p, before)\n", "pause()\n\t\t\tbegin := l.now()\n\t\t\te := l.known(p, before)\n\t\t\tpause()\n"},
			{patchFile, "if err == nil {\n\t\t\t\tl.patch(", "pause()\n\t\t\tif err == nil {\n\t\t\t\tl.patch("},
			{patchFile, "\tl.stats.patched.Add(1)\n", "\tl.stats.patched.Add(1)\n\tpause()\n"},
			{coherenceFile, "err = call(callctx.WithUnsettledRecorder(", "time.Sleep(10 * time.Microsecond)\n\terr = call(callctx.WithUnsettledRecorder("},
			{coherenceFile, "definite = store.IsDefinite(err) && !unsettled.Load()\n", "definite = store.IsDefinite(err) && !unsettled.Load()\n\ttime.Sleep(10 * time.Microsecond)\n"},
		},
		pkg: inDecorators, test: linearizable + "/over_versions",
		survives: true,
	},

	// --- shared reads
	{
		name:  "a flight belongs to one generation",
		what:  "a read joins any call for the same that is under way",
		edits: []edit{{coherenceFile, "b = strconv.AppendUint(b, uint64(r.Word), 16)", ""}},
		pkg:   inDecorators, test: shared,
	},
	{
		name:  "a flight belongs to one generation (cache)",
		what:  "a miss joins any load of the same that is under way",
		edits: []edit{{coherenceFile, "b = strconv.AppendUint(b, uint64(r.Word), 16)", ""}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "during a write, only calls that have not begun are joined",
		what:  "a read joins a call that began earlier in the same write",
		edits: []edit{{coherenceFile, "Queued: !r.Word.Idle(),", ""}},
		pkg:   inDecorators, test: shared,
	},
	{
		name:  "a queued call is shut when it begins",
		what:  "a queued call can be joined until it ends",
		edits: []edit{{flightFile, "g.mu.Lock()\n\t\tg.shut(f, spec.Key)\n\t\tg.begin(f.ctx, f, spec)", "g.mu.Lock()\n\t\tg.begin(f.ctx, f, spec)"}},
		pkg:   inDecorators, test: shared,
	},
	{
		name:  "a fresh read joins no flight",
		what:  "WithFresh shares calls",
		edits: []edit{{"decorators/singleflight/singleflight.go", "if h.Fresh() || l.closed.Load() {", "if l.closed.Load() {"}},
		pkg:   "./decorators/singleflight", test: "^TestAFreshReadJoinsNothing$",
	},

	// --- patches
	{
		name:  "a patch from the version that the write met",
		what:  "an entry is patched whatever version the write met",
		edits: []edit{{patchFile, "case e.version.known && reported && rep.Before == e.version.n:", "case e.version.known && reported:"}},
		pkg:   inCache, test: noBus,
	},
	{
		name:  "a patch without versions only by the sole writer",
		what:  "an entry without a version is patched and renewed by every write",
		edits: []edit{{patchFile, "case len(reports) == 0 && !e.version.known && l.cfg.soleWriter:", "case len(reports) == 0 && !e.version.known:\n\t\tnext.expires = l.expiry(begin)"}},
		pkg:   inCache, test: noBus,
	},
	{
		name:  "a renewal only by a version match",
		what:  "the sole writer's patches renew the time of an entry",
		edits: []edit{{patchFile, "case len(reports) == 0 && !e.version.known && l.cfg.soleWriter:", "case len(reports) == 0 && !e.version.known && l.cfg.soleWriter:\n\t\tnext.expires = l.expiry(begin)"}},
		pkg:   inCache, test: "^TestAPatchWithoutAVersionDoesNotRenewTheTTL$",
	},
	{
		name:  "a renewal counts from the begin of the write",
		what:  "the time of a patched entry counts from the write's end",
		edits: []edit{{patchFile, "next.expires = l.expiry(begin)", "next.expires = l.expiry(l.now())"}},
		pkg:   inCache, test: "^TestAPatchRenewsTheTTLFromTheBeginOfItsWrite$",
	},
	{
		name: "the entry is captured after the write began",
		what: "the entry to be patched is looked up before the word is moved",
		edits: []edit{
			{patchFile, "\t// Also of a closed cache: others may be open.\n", "\tcaptured := l.known(p, l.core.Words.Load(p.slot))\n\ttime.Sleep(50 * time.Microsecond)\n"},
			{patchFile, "e := l.known(p, before)\n", "e := captured\n"},
		},
		pkg: inDecorators, test: linearizable,
	},
	{
		name:  "(the pause of the mutant above)",
		what:  "nothing but wait before the write",
		edits: []edit{{patchFile, "\t// Also of a closed cache: others may be open.\n", "\ttime.Sleep(50 * time.Microsecond)\n"}},
		pkg:   inDecorators, test: linearizable + "/over_versions",
		survives: true,
	},
	{
		name:  "the tag of a patch is not read again",
		what:  "a patch is tagged with the word as it is after the write",
		edits: []edit{{patchFile, "next.tag = before.AfterWrite()", "next.tag = l.core.Words.Load(p.slot) + 1<<24 - 1"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "layers that rewrite what is saved are not patched over",
		what:  "an entry is patched with what the caller gave, not what a guard below made of it",
		edits: []edit{{layerFile, "mayPatch: !rewrites,", "mayPatch: !rewrites || true,"}},
		pkg:   inCache, test: "^TestOverALayerThatRewritesNothingIsPatched$",
	},

	// --- the window
	{
		name:  "what is older is none, some or unknown",
		what:  "after a deletion beyond the window, more is still said to be there",
		edits: []edit{{windowFile, "w.older = olderUnknown // it may have been all that was older", ""}},
		pkg:   inCache, test: "^TestPatchTable$",
	},
	{
		name:  "an item older than the window is not inserted",
		what:  "an added item is inserted in front of an incomplete window",
		edits: []edit{{windowFile, "case beyond:\n\t\tw.older = olderSome\n\t\treturn w, true\n\t}\n\treturn w.insert(it), true", "}\n\treturn w.insert(it), true"}, {windowFile, "beyond, sure := w.beyond(it)\n\tswitch {", "_, sure := w.beyond(it)\n\tswitch {"}},
		pkg:   inCache, test: "^TestPatchTable$",
	},
	{
		name:  "a moved item drops the window",
		what:  "a saved item takes its old place, whatever its time",
		edits: []edit{{windowFile, "if !w.items[i].CreatedAt.Equal(it.CreatedAt) {", "if false {"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "an item saved from beyond the window drops it",
		what:  "a saved item that an incomplete window lacks is put in as if it were new",
		edits: []edit{{windowFile, "return window{}, false // new, or moved here from beyond: its place among equals is not known", "return w.insert(it), true"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "trimming says that there is more",
		what:  "a trimmed window stays complete",
		edits: []edit{{windowFile, "w.older = olderSome\n\t}\n\treturn w\n}\n\n// insert", "}\n\treturn w\n}\n\n// insert"}},
		pkg:   inDecorators, test: linearizable,
	},
	{
		name:  "a page that ends at the window's edge asks what is older",
		what:  "unknown is taken for some",
		edits: []edit{{windowFile, "if len(rest) == n && w.older != olderNone && (n < q.Limit || w.older == olderUnknown) {", "if len(rest) == n && w.older != olderNone && n < q.Limit {"}},
		pkg:   inDecorators, test: linearizable,
	},

	// --- entries
	{
		name:  "parts merge under equal tags only",
		what:  "a fill is merged with what is there, whatever its tag",
		edits: []edit{{shardsFile, "if old != nil && old.tag == e.tag && !old.expired(now)", "if old != nil && !old.expired(now)"}},
		pkg:   inDecorators, test: localBus,
	},
	{
		name:  "parts merge under equal versions only",
		what:  "a fill is merged with what is there, whatever its version",
		edits: []edit{{shardsFile, "case old.version == e.version && (!whole || e.version.known):", "case true:"}},
		pkg:   inCache, test: "^TestPartsOfTwoVersionsNeverShareAnEntry$",
	},
	{
		name:  "a merged entry ends with its first part",
		what:  "a merged entry lasts as long as its last part",
		edits: []edit{{entryFile, "m.expires = earlier(old.expires, fill.expires)", ""}},
		pkg:   inCache, test: noBus,
	},
	{
		name:  "the TTL counts from the begin of the load",
		what:  "the TTL counts from the load's end",
		edits: []edit{{missFile, "e := &entry{tag: m.Word, expires: l.expiry(begin)}", "e := &entry{tag: m.Word, expires: l.expiry(l.now())}"}},
		pkg:   inCache, test: noBus,
	},
	{
		name:  "an entry answers for its TTL at most",
		what:  "an entry answers for twice its time",
		edits: []edit{{layerFile, "return begin + l.cfg.ttl - time.Duration", "return begin + 2*l.cfg.ttl - time.Duration"}},
		pkg:   inCache, test: noBus,
	},
	{
		name:  "an expired entry does not answer",
		what:  "entries do not expire",
		edits: []edit{{entryFile, "return e.expires != 0 && now >= e.expires", "return false"}},
		pkg:   inCache, test: noBus,
	},
	{
		name:  "a fresh read is not answered from an entry",
		what:  "WithFresh is answered from the cache",
		edits: []edit{{lookupFile, "if h.Fresh() || !l.serving.Load() {\n\t\treturn nil", "if !l.serving.Load() {\n\t\treturn nil"}},
		pkg:   inCache, test: noBus,
	},

	// --- several processes
	{
		name:  "a bus message moves the words",
		what:  "a message empties the cache, but loads under way are stored",
		edits: []edit{{cacheBusFile, "changed := l.core.Words.Bump\n", "changed := func(generation.Slot) {\n\t\tfor _, s := range l.shards {\n\t\t\ts.flush()\n\t\t}\n\t}\n"}},
		pkg:   inDecorators, test: localBus,
	},
	{
		name:  "a write is told before it returns",
		what:  "writes are not told",
		edits: []edit{{cacheBusFile, "\t\tl.publish(ctx, change)\n\t}()", "\t}()"}},
		pkg:   inDecorators, test: localBus,
	},
	{
		name:  "a write with an unknown outcome is told as one",
		what:  "a write with an unknown outcome is told as if it were over",
		edits: []edit{{cacheBusFile, "\t\t\tchange.Write = 0\n", ""}},
		pkg:   inDecorators, test: localBus,
	},
	{
		name:  "others hold a thread back after an unknown outcome",
		what:  "a message of an unknown outcome is taken as any other",
		edits: []edit{{cacheBusFile, `if c.Origin != "" && c.Write == 0 {`, "if false {"}},
		pkg:   inDecorators, test: localBus,
	},
	{
		name:  "a gap moves every word",
		what:  "after a gap the cache is emptied, but loads under way are stored",
		edits: []edit{{cacheBusFile, "\tl.core.Words.BumpAll()\n\tfor _, s", "\tfor _, s"}},
		pkg:   inCache, test: "^TestAGapMovesTheWordsOfLoadsUnderWay$",
	},
	{
		name:  "nothing is served without a connection",
		what:  "connected(false) is not heeded",
		edits: []edit{{cacheBusFile, "if !yes || l.closed.Load() {\n\t\tl.serving.Store(false)", "if !yes || l.closed.Load() {"}, {layerFile, "return l.serving.Load() && (l.lease == nil || now < l.lease.LeasedUntil().Sub(l.clock)+1)", "return l.serving.Load()"}},
		pkg:   inBus, test: troubledBus,
	},
	{
		name:  "one's own message is known by its number",
		what:  "every message of one's own process is ignored",
		edits: []edit{{cacheBusFile, "if c.Origin != l.origin || c.Write == 0 || c.All || l.unsure.has(c.Write) {\n\t\treturn false", "if c.Origin != l.origin {\n\t\treturn false"}, {cacheBusFile, "return (c.ThreadID == \"\" || mark(l.core.Words.Slot(coherence.ThreadWord, c.ThreadID)) == moved) &&", "return true || (c.ThreadID == \"\" || mark(l.core.Words.Slot(coherence.ThreadWord, c.ThreadID)) == moved) &&"}},
		pkg:   inCache, test: "^TestAnUnstampedMessageOfOnesOwnIsForeign$",
	},
	{
		name:  "a lease counts from the sending",
		what:  "a lease counts from the heartbeat's arrival",
		edits: []edit{{sessionFile, "s.proof = one.sent\n", "s.proof = time.Now()\n"}},
		pkg:   inBus, test: "^TestTheLeaseCountsFromTheSending$",
	},
	{
		name:  "a missing number is a gap",
		what:  "gaps are not noticed",
		edits: []edit{{peersFile, "case len(m.Changes) > 0 && before != known.last: // a number that comes again is not a publisher's to send either\n\t\tv = missed\n\tcase before > known.last:\n\t\tv = missed", ""}},
		pkg:   inBus, test: troubledBus,
	},
	{
		name:  "only heartbeats of the same connection count",
		what:  "any heartbeat of the process renews the lease",
		edits: []edit{{sessionFile, " && m.Conn == s.name {", " {"}},
		pkg:   inBus, test: "^TestOnlyHeartbeatsOfTheSameConnectionCount$",
	},

	// --- who may see what
	{
		name:  "a call asks the policy (load_thread)",
		what:  "nobody is asked: load_thread of a row that is there is allowed",
		edits: []edit{{threadsFile, "c.about(Read, threadID, t.Owner), found, store.CodeNotFound); err != nil {\n\t\treturn chat.Thread{}, err\n\t} else if !ok {", "c.about(Read, threadID, t.Owner), found, store.CodeNotFound); err != nil {\n\t\treturn chat.Thread{}, err\n\t} else if !ok && !found {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (delete_thread)",
		what:  "nobody is asked: delete_thread of a row that is there is allowed",
		edits: []edit{{threadsFile, "c.about(Delete, threadID, owner), found, store.CodeOK); !ok {", "c.about(Delete, threadID, owner), found, store.CodeOK); !ok && !found {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (load_thread_items)",
		what:  "nobody is asked: load_thread_items of a row that is there is allowed",
		edits: []edit{{itemsFile, "} else if !ok {\n\t\treturn none, missed\n", "} else if !ok && !found {\n\t\treturn none, missed\n"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (load_item)",
		what:  "nobody is asked: load_item of a row that is there is allowed",
		edits: []edit{{itemsFile, "c.about(Read, threadID, owner), found, store.CodeNotFound); err != nil {\n\t\treturn chat.Item{}, err\n\t} else if !ok {", "c.about(Read, threadID, owner), found, store.CodeNotFound); err != nil {\n\t\treturn chat.Item{}, err\n\t} else if !ok && !found {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (add_thread_item, save_item)",
		what:  "nobody is asked: add_thread_item, save_item of a row that is there is allowed",
		edits: []edit{{itemsFile, "} else if !ok {\n\t\treturn c.error(store.CodeNotFound)\n\t}\n\tif err := l.checkEmbedded", "} else if !ok && !found {\n\t\treturn c.error(store.CodeNotFound)\n\t}\n\tif err := l.checkEmbedded"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (delete_thread_item)",
		what:  "nobody is asked: delete_thread_item of a row that is there is allowed",
		edits: []edit{{itemsFile, "c.about(Delete, threadID, owner), found, store.CodeOK); !ok {", "c.about(Delete, threadID, owner), found, store.CodeOK); !ok && !found {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (load_attachment)",
		what:  "nobody is asked: load_attachment of a row that is there is allowed",
		edits: []edit{{attachFile, "c.about(Read, \"\", a.Owner), found, store.CodeNotFound); err != nil {\n\t\treturn chat.Attachment{}, err\n\t} else if !ok {", "c.about(Read, \"\", a.Owner), found, store.CodeNotFound); err != nil {\n\t\treturn chat.Attachment{}, err\n\t} else if !ok && !found {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (delete_attachment)",
		what:  "nobody is asked: delete_attachment of a row that is there is allowed",
		edits: []edit{{attachFile, "c.about(Delete, \"\", owner), found, store.CodeOK); !ok {", "c.about(Delete, \"\", owner), found, store.CodeOK); !ok && !found {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a call asks the policy (save_thread, save_attachment)",
		what:  "a row that is there is saved for whoever asks",
		edits: []edit{{saveFile, "case allowed:\n", "case allowed, hidden:\n"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "what a message names must be readable",
		what:  "whatever attachment a message names is let in",
		edits: []edit{{attachFile, "if len(ids) == 0 {\n\t\treturn nil", "if true {\n\t\treturn nil"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "what a message names anew must be readable",
		what:  "whatever attachment is named in place of another is let in",
		edits: []edit{{attachFile, "if slices.Contains(before, id) {", "if len(before) > 0 {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a hidden row is as good as absent",
		what:  "a hidden row is denied",
		edits: []edit{{guardFile, "l.deny(ctx, c, ReasonHidden, told)\n\t\treturn false, nil", "l.deny(ctx, c, ReasonHidden, told)\n\t\treturn false, c.error(store.CodeDenied)"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a missing row is asked about in the same way",
		what:  "what is not there is looked for twice",
		edits: []edit{{guardFile, "case missing(err):\n\t\treturn o, false, nil\n\t}\n\treturn o, false, c.before(err)\n}\n\n// attachmentOwner", "case missing(err):\n\t\t_, _ = l.next.LoadThread(layer.Own(ctx), threadID)\n\t\treturn o, false, nil\n\t}\n\treturn o, false, c.before(err)\n}\n\n// attachmentOwner"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a version waits for the verdict",
		what:  "a version is told before the policy has been asked",
		edits: []edit{{threadsFile, "inner := ctx\n\tif c.hints.Recording() {", "inner := ctx\n\tif false {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a look at the owner tells no version",
		what:  "the look at a thread's owner reports the version to the caller",
		edits: []edit{{guardFile, "t, err := l.next.LoadThread(layer.Own(ctx), threadID)", "t, err := l.next.LoadThread(ctx, threadID)"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a listing's scope goes down to the base",
		what:  "a page of everybody's rows is filtered afterwards",
		edits: []edit{{threadsFile, "q.Owner = f\n\tpage, err :=", "q.Owner = store.AnyOwner()\n\tpage, err :="}, {threadsFile, "for _, t := range page.Data {\n\t\tif !f.Match(t.Owner) {\n\t\t\treturn none, l.stray(&c)\n\t\t}\n\t}\n", "own := page.Data[:0]\n\tfor _, t := range page.Data {\n\t\tif f.Match(t.Owner) {\n\t\t\town = append(own, t)\n\t\t}\n\t}\n\tpage.Data = own\n"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a listing's rows are checked",
		what:  "rows outside of the scope are passed on",
		edits: []edit{{threadsFile, "if !f.Match(t.Owner) {", "if false && !f.Match(t.Owner) {"}},
		pkg:   inDecorators, test: hostileBase,
	},
	{
		name:  "a thread's id is checked",
		what:  "another thread than was asked for is passed on",
		edits: []edit{{threadsFile, "case found && t.ID != threadID:", "case false:"}},
		pkg:   inDecorators, test: hostileBase,
	},
	{
		name:  "an item's thread is checked",
		what:  "an item of another thread is passed on",
		edits: []edit{{itemsFile, "if it.ID != itemID || it.ThreadID != threadID {", "if false {"}},
		pkg:   inDecorators, test: hostileBase,
	},
	{
		name:  "a page's threads are checked",
		what:  "a page of another thread is passed on",
		edits: []edit{{itemsFile, "if it.ThreadID != threadID {\n\t\t\treturn none", "if false && it.ThreadID != threadID {\n\t\t\treturn none"}},
		pkg:   inDecorators, test: hostileBase,
	},
	{
		name:  "an attachment's id is checked",
		what:  "another attachment than was asked for is passed on",
		edits: []edit{{attachFile, "case found && a.ID != attachmentID:", "case false:"}},
		pkg:   inDecorators, test: hostileBase,
	},
	{
		name:  "an owner is a tenant and a subject",
		what:  "the same subject in another tenant is taken for the owner",
		edits: []edit{{policyFile, "if r.Owner == r.Principal.Owner && !r.Owner.IsZero() {", "if r.Owner.Subject == r.Principal.Owner.Subject && !r.Owner.IsZero() {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "an administrator is of one tenant",
		what:  "a tenant's administrator may see every tenant",
		edits: []edit{{policyFile, "if role.covers(r.Principal) && store.InTenant(r.Principal.Owner.Tenant).Match(r.Owner) {", "if role.covers(r.Principal) {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "a viewer only reads",
		what:  "a viewer may write",
		edits: []edit{{grantsFile, "if r.Action == Read {", "if r.Action == Read || r.Action == Write {"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "grants are asked for on every call",
		what:  "a grant, once given, is remembered",
		edits: []edit{{grantsFile, "type grants func", "var remembered sync.Map\n\ntype grants func"}, {grantsFile, "import (\n\t\"context\"\n", "import (\n\t\"context\"\n\t\"sync\"\n"}, {grantsFile, "if err != nil || r.Owner.IsZero() {\n\t\treturn Deny, err\n\t}\n", "if err != nil || r.Owner.IsZero() {\n\t\treturn Deny, err\n\t}\n\tif was, ok := remembered.LoadOrStore([2]any{r.Principal.Owner, r.ThreadID}, role); ok && role < was.(Role) {\n\t\trole = was.(Role)\n\t}\n"}},
		pkg:   inDecorators, test: guardAlone,
	},
	{
		name:  "principals are kept apart",
		what:  "all share one partition",
		edits: []edit{{coherenceFile, "return h.Partition()\n", "return layer.Partition{}\n"}},
		pkg:   inDecorators, test: nobodyLearns,
	},
	{
		name:  "principals are kept apart (singleflight)",
		what:  "flights are joined by all",
		edits: []edit{{coherenceFile, "Key:    key(c.Partition(h), r),", "Key:    key(layer.Partition{}, r),"}},
		pkg:   inDecorators, test: "^TestNobodyLearnsOfOthers$/^singleflight,_authz$",
	},
	{
		name:  "a cursor is a row of the listing",
		what:  "another owner's thread is a cursor",
		edits: []edit{{"memstore/threads.go", "if t == nil || t.live == nil || !q.Owner.Match(t.owner) {", "if t == nil || t.live == nil {"}},
		pkg:   inMemstore, test: "^TestConformance$",
	},

	// --- values and bases
	{
		name:  "names match exactly",
		what:  "a member is found by its name in any case",
		edits: []edit{{scanFile, "if m.Name == name {", "if len(m.Name) == len(name) && (m.Name[0]|32) == name[0] && m.Name[1:] == name[1:] {"}},
		pkg:   inChat, test: "^TestNamesDifferingInCaseAreOthers$",
	},
	{
		name:  "a repeated name is invalid",
		what:  "the second of two equal names is let through",
		edits: []edit{{scanFile, "if n == name {\n\t\t\ts.Dup = depth\n\t\t}", "_ = n"}},
		pkg:   inChat, test: "^(TestFreeFormJSONMayRepeatNames|FuzzItemJSON|FuzzThreadJSON)$",
	},
	{
		name:  "an id once used is its owner's",
		what:  "who saves a deleted thread's id becomes its owner",
		edits: []edit{{"memstore/threads.go", "if t == nil {\n\t\tt = &thread{owner: cloneOwner(saved.Owner)}\n\t}", "if t == nil || t.live == nil {\n\t\tt = &thread{owner: cloneOwner(saved.Owner)}\n\t}"}},
		pkg:   inMemstore, test: "^TestConformance$",
	},
	{
		name:  "a version counts every change, and never restarts",
		what:  "a deletion does not count",
		edits: []edit{{"memstore/threads.go", "\t\tt.live = nil\n\t\tt.version++", "\t\tt.live = nil"}},
		pkg:   inMemstore, test: "^TestConformance$",
	},
	{
		name:  "the owner is decided with the write",
		what:  "another owner's save replaces the row",
		edits: []edit{{"memstore/memstore.go", "case !saved.IsZero() && saved != owner:\n\t\treturn store.CodeConflict", ""}},
		pkg:   inMemstore, test: "^TestConformance$",
	},
	{
		name:  "versions are in the order of commits (SQL)",
		what:  "a change of an item does not count in its thread's row",
		edits: []edit{{"sqlstore/statements.go", "touchThread: q(`UPDATE {threads} SET version = version + 1, item_seq = item_seq + 1", "touchThread: q(`UPDATE {threads} SET version = version, item_seq = item_seq + 1"}},
		pkg:   "./sqlstore", test: "^TestConformance$/^sqlite$/^Version$",
		race: true, // it is how CI has compiled SQLite, which takes minutes
	},

	// --- flights end for nobody but those who leave
	{
		name:  "a shared call has no caller's cancellation",
		what:  "a shared call runs in its leader's context",
		edits: []edit{{coherenceFile, "return c.Unnamed(callctx.Detached(ctx))", "return c.Unnamed(ctx)"}},
		pkg:   inDecorators, test: shared,
	},
	{
		name:  "a shared call ends with its last caller, not its first",
		what:  "any caller who leaves ends the call",
		edits: []edit{{flightFile, "if f.refs--; f.refs == 0 {", "if f.refs--; true {"}},
		pkg:   inDecorators, test: shared,
	},

	// --- whatever goes wrong
	{
		name:  "a failed look lets nothing in",
		what:  "an attachment that could not be looked at is let in",
		edits: []edit{{attachFile, "owner, found, err := l.attachmentOwner(ctx, &a, id)\n\t\tif err != nil {\n\t\t\treturn err", "owner, found, err := l.attachmentOwner(ctx, &a, id)\n\t\tif err != nil {\n\t\t\tcontinue"}},
		pkg:   inDecorators, test: faults,
	},
	{
		name:  "a write whose look failed has not been made",
		what:  "it is as unknown as if the write itself had failed",
		edits: []edit{{attachFile, "return nil, nil\n\t}\n\treturn nil, c.before(err)\n}", "return nil, nil\n\t}\n\treturn nil, c.base(err)\n}"}},
		pkg:   inDecorators, test: faults,
	},
	{
		name:  "a call that panics is no longer in flight",
		what:  "a panic leaves an observed call begun",
		edits: []edit{{"store/layer/observe.go", "if ob.done {\n\t\tr.Code = store.CodeOf(ob.err)", "if !ob.done {\n\t\treturn\n\t}\n\tif ob.done {\n\t\tr.Code = store.CodeOf(ob.err)"}},
		pkg:   inDecorators, test: faults,
	},
	{
		name:  "an entry that is replaced leaves the account",
		what:  "its bytes are counted on",
		edits: []edit{{shardsFile, "g.bytes -= old.bytes", "_ = old"}},
		pkg:   inDecorators, test: faults,
	},
	{
		name:  "what has answered is protected",
		what:  "a scan pushes out what is read again and again",
		edits: []edit{{shardsFile, "case mayProtect && s.mayProtect(e) && e.answered.Swap(false):", "case false:"}},
		pkg:   inCache, test: "^TestAScanDoesNotTakeThePlaceOfWhatIsReadAgain$",
	},
	{
		name:  "what is protected and expired goes first",
		what:  "what was hot keeps its place until it is due",
		edits: []edit{{shardsFile, "if some && hot.expired(now) {", "if false {"}},
		pkg:   inCache, test: "^TestWhatIsHotNowTakesThePlaceOfWhatWas$",
	},
}
