-- Tells the caches of other processes what a transaction changed. Each statement sends one message, and PostgreSQL sends equal
-- messages of a transaction once: a write of the store, which changes the thread's row and perhaps an item of it, is one in
-- all. What bears a stamp says whose write it was. A message has at most 8,000 bytes: where more changed, it says "everything".
CREATE FUNCTION {schema}"{prefix}notify"() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	kind    text := TG_ARGV[0]; -- t: threads, a: attachments
	id      text := TG_ARGV[1]; -- the column of their ids
	channel text := TG_ARGV[2];
	stamp   text := coalesce(current_setting('chatstore.stamp', true), '');
	ids     text[];
	message text := '{"all":true}';
BEGIN
	IF TG_OP <> 'TRUNCATE' THEN
		EXECUTE format('SELECT array_agg(id) FROM (SELECT %1$I AS id FROM changed %2$s LIMIT 33) AS few', id,
			CASE TG_OP WHEN 'UPDATE' THEN format('UNION SELECT %I FROM gone', id) ELSE 'GROUP BY 1' END) INTO ids;
		IF ids IS NULL THEN
			RETURN NULL;
		END IF;
		IF cardinality(ids) <= 32 THEN
			message := json_strip_nulls(json_build_object(kind, ids, 'o', nullif(split_part(stamp, ':', 1), ''),
				'w', nullif(split_part(stamp, ':', 2), '')::numeric));
		END IF;
		IF octet_length(message) > 7900 THEN
			message := '{"all":true}';
		END IF;
	END IF;
	PERFORM pg_notify(channel, message);
	RETURN NULL;
END
$$;
CREATE TRIGGER "{prefix}notify_insert" AFTER INSERT ON {schema}"{prefix}threads" REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_update" AFTER UPDATE ON {schema}"{prefix}threads" REFERENCING NEW TABLE AS changed OLD TABLE AS gone
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_delete" AFTER DELETE ON {schema}"{prefix}threads" REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_truncate" AFTER TRUNCATE ON {schema}"{prefix}threads"
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_insert" AFTER INSERT ON {schema}"{prefix}items" REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'thread_id', '{channel}');
CREATE TRIGGER "{prefix}notify_update" AFTER UPDATE ON {schema}"{prefix}items" REFERENCING NEW TABLE AS changed OLD TABLE AS gone
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'thread_id', '{channel}');
CREATE TRIGGER "{prefix}notify_delete" AFTER DELETE ON {schema}"{prefix}items" REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'thread_id', '{channel}');
CREATE TRIGGER "{prefix}notify_truncate" AFTER TRUNCATE ON {schema}"{prefix}items"
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('t', 'thread_id', '{channel}');
CREATE TRIGGER "{prefix}notify_insert" AFTER INSERT ON {schema}"{prefix}attachments" REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('a', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_update" AFTER UPDATE ON {schema}"{prefix}attachments" REFERENCING NEW TABLE AS changed OLD TABLE AS gone
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('a', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_delete" AFTER DELETE ON {schema}"{prefix}attachments" REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('a', 'id', '{channel}');
CREATE TRIGGER "{prefix}notify_truncate" AFTER TRUNCATE ON {schema}"{prefix}attachments"
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}"{prefix}notify"('a', 'id', '{channel}');
