CREATE TABLE "{prefix}threads" (
	id         TEXT    NOT NULL PRIMARY KEY,
	tenant     TEXT    NOT NULL,
	subject    TEXT    NOT NULL,
	created_at INTEGER NOT NULL, -- microseconds since 1970
	seq        INTEGER NOT NULL, -- its place among threads of one time
	version    INTEGER NOT NULL,
	item_seq   INTEGER NOT NULL, -- the last place given to an item
	deleted    INTEGER NOT NULL,
	doc        TEXT    NOT NULL
) STRICT;
CREATE INDEX "{prefix}threads_by_owner" ON "{prefix}threads" (tenant, subject, created_at, seq) WHERE deleted = 0;
CREATE INDEX "{prefix}threads_by_tenant" ON "{prefix}threads" (tenant, created_at, seq) WHERE deleted = 0 AND subject <> '';
CREATE INDEX "{prefix}threads_by_time" ON "{prefix}threads" (created_at, seq) WHERE deleted = 0;

CREATE TABLE "{prefix}items" (
	thread_id  TEXT    NOT NULL REFERENCES "{prefix}threads" (id),
	id         TEXT    NOT NULL,
	created_at INTEGER NOT NULL,
	seq        INTEGER NOT NULL,
	doc        TEXT    NOT NULL,
	PRIMARY KEY (thread_id, id)
) STRICT;
CREATE UNIQUE INDEX "{prefix}items_by_time" ON "{prefix}items" (thread_id, created_at, seq);

CREATE TABLE "{prefix}attachments" (
	id      TEXT    NOT NULL PRIMARY KEY,
	tenant  TEXT    NOT NULL,
	subject TEXT    NOT NULL,
	deleted INTEGER NOT NULL,
	doc     TEXT    NOT NULL
) STRICT;

CREATE TABLE "{prefix}counters" (name TEXT NOT NULL PRIMARY KEY, n INTEGER NOT NULL) STRICT;
INSERT INTO "{prefix}counters" VALUES ('threads', 0);
