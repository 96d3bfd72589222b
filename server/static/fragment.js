// Parts of a page that take longer to find out: the page is there first, and fetches them.
"use strict";

const AGAIN_MS = 30_000; // an open page follows the server, but no faster than that
const askedAt = new WeakMap();

async function fetchPart(place) {
  askedAt.set(place, Date.now());
  try {
    const answer = await fetch(place.dataset.fragment, { headers: { Accept: "text/html" } });
    if (!answer.ok || !(answer.headers.get("Content-Type") || "").startsWith("text/html")) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    place.replaceChildren(...fresh.body.childNodes);
    document.dispatchEvent(new CustomEvent("pathgrade:part"));
  } catch {
    // the server is away: what is shown stays, and the next round asks again
  }
}

const parts = () => document.querySelectorAll("[data-fragment]");
const isReaders = (place) => place.contains(document.activeElement);

for (const place of parts()) fetchPart(place);
document.addEventListener("pathgrade:fresh", () => {
  for (const place of parts())
    if (Date.now() - (askedAt.get(place) || 0) >= AGAIN_MS && !isReaders(place)) fetchPart(place);
});
