package storetest

// The texts are as the SDKs of other languages write them, with placeholders for ids.
const (
	// The Python SDK writes all nulls and defaults, and times without a zone.
	pythonItem = `{"id":"ITEM","thread_id":"THREAD","created_at":"2026-01-02T03:04:05.678901","type":"user_message",` +
		`"content":[{"type":"input_text","text":"caf\u00e9 — \"quoted\""},{"id":"tag_1","type":"input_tag","text":"@ada",` +
		`"data":{"n":12345678901234567890,"f":1.0},"group":null,"interactive":false}],` +
		`"attachments":[],"quoted_text":null,"inference_options":{"tool_choice":null,"model":null}}`
	pythonThread = `{"title":null,"id":"THREAD","created_at":"2026-01-02T03:04:05","status":{"type":"active"},` +
		`"allowed_image_domains":null,"metadata":{"previous_response_id":null,"n":1.0}}`
	pythonAttachment = `{"id":"ATTACHMENT","name":"a.txt","mime_type":"text/plain","upload_descriptor":` +
		`{"url":"https://example.com/up?a=1&b=2","method":"PUT","headers":{"b":"1","a":"2"}},"thread_id":null,"metadata":null,"type":"file"}`

	// The Node SDK writes milliseconds, and leaves absent members out.
	nodeItem = `{"type":"assistant_message","id":"ITEM","thread_id":"THREAD","created_at":"2026-01-02T03:04:05.678Z",` +
		`"content":[{"type":"output_text","text":"<b>&amp;</b>","annotations":[{"type":"annotation","index":3,` +
		`"source":{"type":"url","url":"https://example.com/","title":"Example"}}]}]}`
	nodeThread     = `{"id":"THREAD","created_at":"2026-01-02T03:04:05.000Z","status":{"type":"locked","reason":"spam"},"metadata":{}}`
	nodeAttachment = `{"type":"image","id":"ATTACHMENT","name":"a.png","mime_type":"image/png",` +
		`"preview_url":"https://example.com/p.png","upload_url":"https://example.com/up"}`
)

// variants has one item of each variant, without id, thread_id and created_at. ATTACHMENT stands for an attachment's id.
var variants = []string{
	`{"type":"user_message","content":[{"type":"input_text","text":"hello"},{"type":"input_tag","id":"t","text":"@x","data":{"k":[]},` +
		`"group":"people","interactive":true}],"attachments":[{"type":"file","id":"ATTACHMENT","name":"a.txt","mime_type":"text/plain"}],` +
		`"quoted_text":"before","inference_options":{"tool_choice":{"id":"search"},"model":"large"}}`,
	`{"type":"assistant_message","content":[{"type":"output_text","text":"hi","annotations":[` +
		`{"type":"annotation","source":{"type":"url","url":"https://example.com","title":"u"},"index":0},` +
		`{"type":"annotation","source":{"type":"file","filename":"a.pdf","title":"f"},"index":1},` +
		`{"type":"annotation","source":{"type":"entity","id":"e","title":"e","data":{}},"index":null}]}]}`,
	`{"type":"client_tool_call","status":"pending","call_id":"c1","name":"tool","arguments":{"a":{"b":[1,null]}},"output":null}`,
	`{"type":"client_tool_call","status":"completed","call_id":"c1","name":"tool","arguments":{},"output":["free",{"form":1.0}]}`,
	`{"type":"widget","widget":{"type":"Card","children":[{"type":"Text","value":"v"}]},"copy_text":"v"}`,
	`{"type":"generated_image","image":{"id":"img_1","url":"https://example.com/i.png"}}`,
	`{"type":"structured_input","status":"pending","inputs":[{"type":"multiple_choice","id":"q","question":"?","options":[{"value":"a","description":null}]},` +
		`{"type":"freeform","id":"f","question":"why?"}]}`,
	`{"type":"task","task":{"type":"web_search","status_indicator":"complete","title":"t","title_query":"q","queries":["q"],"sources":[]}}`,
	`{"type":"task","task":{"type":"custom","status_indicator":"none","title":"t","icon":null,"content":"c"}}`,
	`{"type":"task","task":{"type":"thought","status_indicator":"loading","title":null,"content":"hm"}}`,
	`{"type":"workflow","workflow":{"type":"reasoning","tasks":[{"type":"thought","status_indicator":"none","title":"t","content":"c"}],` +
		`"summary":{"title":"s","icon":null},"expanded":false}}`,
	`{"type":"hidden_context_item","content":{"any":["thing",1.0,null]}}`,
	`{"type":"sdk_hidden_context","content":"text"}`,
	`{"type":"end_of_turn"}`,
}
