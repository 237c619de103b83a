// The view follows the end of the conversation, except after the user has scrolled up.
import { $ } from "./dom.js";

let following = true;
let top = 0;

const near = () => { const s = $("scroll"); return s.scrollHeight - s.scrollTop - s.clientHeight < 48; };

function toEnd() {
  const s = $("scroll");
  s.scrollTop = s.scrollHeight;
  top = s.scrollTop;
}

function mark() { $("newest").hidden = following || near(); }

// follow goes to the end and stays there.
export function follow() {
  following = true;
  toEnd();
  mark();
}

export function start() {
  const s = $("scroll");
  s.addEventListener("scroll", () => {
    // Only a move up ends the following: content that has just grown moves the end away, too.
    if (near()) following = true;
    else if (s.scrollTop < top - 1) following = false;
    top = s.scrollTop;
    mark();
  });
  // A picture that has arrived, a longer answer, a smaller window: all change a size.
  const sizes = new ResizeObserver(() => { if (following) toEnd(); mark(); });
  sizes.observe($("scroll"));
  sizes.observe($("content"));
  $("newest").addEventListener("click", () => { follow(); $("scroll").focus(); });
}
