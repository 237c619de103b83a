// The updates of a stream.

// update applies an update of the stream to an item, and returns whether the item changed. It ignores unknown updates:
// the finished item has their result.
export function update(item, u) {
  switch (u.type) {
    case "assistant_message.content_part.added":
    case "assistant_message.content_part.done":
      item.content[u.content_index] = u.content;
      return true;
    case "assistant_message.content_part.text_delta":
      item.content[u.content_index].text += u.delta;
      return true;
    case "assistant_message.content_part.annotation_added":
      (item.content[u.content_index].annotations ??= []).splice(u.annotation_index, 0, u.annotation);
      return true;
    case "workflow.task.added":
      item.workflow.tasks.splice(u.task_index, 0, u.task);
      return true;
    case "workflow.task.updated":
      item.workflow.tasks[u.task_index] = u.task;
      return true;
    case "generated_image.updated":
      item.image = u.image;
      return true;
    case "widget.root.updated":
      item.widget = u.widget;
      return true;
    case "widget.component.updated":
    case "widget.streaming_text.value_delta": {
      const found = find(item.widget, u.component_id);
      if (found && u.component) Object.assign(found, u.component);
      else if (found) found.value = (found.value ?? "") + u.delta;
      return Boolean(found);
    }
  }
  return false;
}

function find(c, id) {
  if (!c || typeof c !== "object") return null;
  if (c.id === id) return c;
  for (const k of Array.isArray(c.children) ? c.children : [c.children]) {
    const found = find(k, id);
    if (found) return found;
  }
  return null;
}
