-- Grants of threads to others. A trigger ends them with their thread, so that programs of the edition before may go on: they know
-- no grants.
CREATE TABLE {schema}"{prefix}grants" (
	thread_id  text COLLATE "C" NOT NULL REFERENCES {schema}"{prefix}threads" (id) ON DELETE CASCADE,
	tenant     text COLLATE "C" NOT NULL, -- to whom: a subject, a group, or if both are empty all of the tenant
	subject    text COLLATE "C" NOT NULL,
	grp        text COLLATE "C" NOT NULL,
	role       smallint NOT NULL, -- 1: viewer, 2: editor
	by_tenant  text COLLATE "C" NOT NULL,
	by_subject text COLLATE "C" NOT NULL,
	granted_at bigint NOT NULL, -- microseconds since 1970
	version    bigint NOT NULL, -- of the thread at that time
	PRIMARY KEY (thread_id, tenant, subject, grp)
);
-- These two are for listings only. Their expressions keep other statements from using them instead of the primary key: for a subject
-- or thread with many grants, that would read all of them.
CREATE INDEX "{prefix}grants_by_time" ON {schema}"{prefix}grants" ((thread_id || ''), granted_at, tenant, subject, grp);
CREATE INDEX "{prefix}grants_by_grantee" ON {schema}"{prefix}grants" ((tenant || ''), (subject || ''), (grp || ''), granted_at, thread_id);
CREATE INDEX "{prefix}grants_by_granter" ON {schema}"{prefix}grants" (by_tenant, by_subject) WHERE by_subject <> ''; -- to erase an owner

-- It runs with the rights and the search path of who migrates: programs of the edition before have no rights on the table.
CREATE FUNCTION {schema}"{prefix}end_grants"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	DELETE FROM {schema}"{prefix}grants" WHERE thread_id = NEW.id;
	RETURN NULL;
END
$$;
CREATE TRIGGER "{prefix}end_grants" AFTER UPDATE OF state ON {schema}"{prefix}threads"
	FOR EACH ROW WHEN (OLD.state = 0 AND NEW.state <> 0) EXECUTE FUNCTION {schema}"{prefix}end_grants"();
