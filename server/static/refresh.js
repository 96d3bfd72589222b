// Keeps an open page current without losing the reader's place. Without it, a meta refresh does the job.
"use strict";

const PERIOD_MS = 10_000;
const MOST_MS = 120_000;

function replaceLiveParts(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  document.title = fresh.title;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
    if (next && next.innerHTML !== old.innerHTML) old.replaceChildren(...next.childNodes);
  }
}

// A form being filled in, a selection or a focused link is the reader's: wait for the next round.
function readerIsBusy() {
  const focused = document.activeElement;
  const inside = focused && focused.closest && focused.closest("[data-live]");
  return document.hidden || Boolean(inside) || !document.getSelection().isCollapsed;
}

async function refresh(wait) {
  let next = PERIOD_MS;
  try {
    if (!readerIsBusy()) {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok) replaceLiveParts(await answer.text());
    }
  } catch {
    next = Math.min(2 * wait, MOST_MS); // the server is away: ask less and less often
  }
  setTimeout(refresh, next, next);
}

setTimeout(refresh, PERIOD_MS, PERIOD_MS);
