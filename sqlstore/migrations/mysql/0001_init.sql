-- MySQL cannot roll back a change of the schema. So each statement can run twice, and beside itself in another program: a program
-- that was interrupted, or that came second, goes on. Ids and names are bytes, because the collations of text pad with spaces. So
-- are documents: they come back as they were, in every character set. There are no foreign keys: each write locks its thread's row.
CREATE TABLE IF NOT EXISTS {prefix}threads (
	id         varbinary(256) NOT NULL PRIMARY KEY,
	tenant     varbinary(256) NOT NULL,
	subject    varbinary(256) NOT NULL,
	state      smallint NOT NULL, -- 0: live, 1: deleted, 2: erased
	created_at bigint NOT NULL, -- microseconds since 1970
	version    bigint NOT NULL,
	places     bigint NOT NULL, -- the last place given to an item
	doc        longblob NOT NULL,
	KEY by_owner (tenant, subject, state, created_at, id),
	KEY by_tenant (tenant, state, created_at, id),
	KEY by_time (state, created_at, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS {prefix}items (
	thread_id  varbinary(256) NOT NULL,
	id         varbinary(256) NOT NULL,
	created_at bigint NOT NULL,
	place      bigint NOT NULL,
	doc        longblob NOT NULL,
	PRIMARY KEY (thread_id, id),
	UNIQUE KEY by_time (thread_id, created_at, place)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS {prefix}gone (
	thread_id  varbinary(256) NOT NULL,
	id         varbinary(256) NOT NULL,
	created_at bigint NOT NULL,
	place      bigint NOT NULL,
	PRIMARY KEY (thread_id, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS {prefix}attachments (
	id      varbinary(256) NOT NULL PRIMARY KEY,
	tenant  varbinary(256) NOT NULL,
	subject varbinary(256) NOT NULL,
	state   smallint NOT NULL,
	doc     longblob NOT NULL,
	KEY by_owner (tenant, subject, state, id),
	KEY by_tenant (tenant, state, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS {prefix}grants (
	thread_id  varbinary(256) NOT NULL,
	tenant     varbinary(256) NOT NULL, -- to whom: a subject, a group, or if both are empty all of the tenant
	subject    varbinary(256) NOT NULL,
	grp        varbinary(256) NOT NULL,
	role       smallint NOT NULL, -- 1: viewer, 2: editor
	by_tenant  varbinary(256) NOT NULL,
	by_subject varbinary(256) NOT NULL,
	granted_at bigint NOT NULL, -- microseconds since 1970
	version    bigint NOT NULL, -- of the thread at that time
	PRIMARY KEY (thread_id, tenant, subject, grp),
	KEY by_time (thread_id, granted_at, tenant, subject, grp),
	KEY by_grantee (tenant, subject, grp, granted_at, thread_id),
	KEY by_granter (by_tenant, by_subject)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
