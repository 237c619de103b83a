CREATE TABLE {schema}"{prefix}threads" (
	id         text COLLATE "C" NOT NULL PRIMARY KEY,
	tenant     text COLLATE "C" NOT NULL,
	subject    text COLLATE "C" NOT NULL,
	created_at bigint NOT NULL, -- microseconds since 1970
	seq        bigint NOT NULL, -- its place among threads of one time
	version    bigint NOT NULL,
	item_seq   bigint NOT NULL, -- the last place given to an item
	deleted    smallint NOT NULL,
	doc        text NOT NULL
);
CREATE INDEX "{prefix}threads_by_owner" ON {schema}"{prefix}threads" (tenant, subject, created_at, seq) WHERE deleted = 0;
CREATE INDEX "{prefix}threads_by_tenant" ON {schema}"{prefix}threads" (tenant, created_at, seq) WHERE deleted = 0 AND subject <> '';
CREATE INDEX "{prefix}threads_by_time" ON {schema}"{prefix}threads" (created_at, seq) WHERE deleted = 0;

CREATE TABLE {schema}"{prefix}items" (
	thread_id  text COLLATE "C" NOT NULL REFERENCES {schema}"{prefix}threads" (id),
	id         text COLLATE "C" NOT NULL,
	created_at bigint NOT NULL,
	seq        bigint NOT NULL,
	doc        text NOT NULL,
	PRIMARY KEY (thread_id, id)
);
CREATE UNIQUE INDEX "{prefix}items_by_time" ON {schema}"{prefix}items" (thread_id, created_at, seq);

CREATE TABLE {schema}"{prefix}attachments" (
	id      text COLLATE "C" NOT NULL PRIMARY KEY,
	tenant  text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL,
	deleted smallint NOT NULL,
	doc     text NOT NULL
);

CREATE TABLE {schema}"{prefix}counters" (name text COLLATE "C" NOT NULL PRIMARY KEY, n bigint NOT NULL);
INSERT INTO {schema}"{prefix}counters" VALUES ('threads', 0);
